// Package procedure runs procedures: stages one after the other, the executions of a stage
// at the same time. What an execution does to a stack goes through the reconciler, so that
// it takes its turn among deploys; the rest goes through the small interfaces declared here.
// Every run is on record before anything of it starts. Core wires the package; it knows
// nothing of TOML, sockets, SQL or Docker.
package procedure
