//go:build linux && !amd64

package crash_test

// older are the calls from before there were those that end in "at": newer systems have none.
var older map[uint64]call
