//go:build race

package sim_test

// How much is simulated when nobody says so: the race detector makes it ten times as slow.
const (
	days  = 2
	cases = "4"
)
