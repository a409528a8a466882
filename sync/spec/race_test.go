//go:build race

package spec_test

// raceDetector makes everything several times slower, and pools forget part of what they are
// given, so that matching an expression allocates its memory again and again.
const raceDetector = true
