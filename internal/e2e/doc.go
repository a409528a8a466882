// Package e2e holds the tests that drive the real thing: core and agents as processes,
// Git over loopback HTTP, and a real Docker Engine. They run with -tags e2e and the
// binaries named by VARAN_BIN; each test is a scenario that reads as a specification.
package e2e
