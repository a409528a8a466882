//go:build race

package spec_test

// raceDetector makes everything several times slower.
const raceDetector = true
