//go:build !race

package sim_test

// How much is simulated when nobody says so.
const (
	days  = 30
	cases = "30"
)
