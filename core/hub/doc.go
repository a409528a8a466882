// Package hub is where agents connect to the core. It knows which agent is connected
// over which session, what each last reported, and which orders wait for an outcome.
// It decides nothing about what should run.
package hub
