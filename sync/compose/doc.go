// Package compose turns the Compose files of one stack into a fleet.Release: the
// resolved model, the files it mounts, and one digest per service. It is the only
// package on core's side that imports compose-go.
//
// Input is hostile until proven otherwise. Every Compose file goes through a bounded
// pre-scan before compose-go sees it; nothing outside the run directory is ever read,
// symbolic links included; the process environment takes no part; and what the
// resolved model asks of its host is checked against the server's tier. All findings
// are diagnostics with file, line and column.
//
// The resolved model holds exact values and is loaded again by the agent with
// interpolation skipped: a dollar sign in it is a dollar sign.
//
// A release holds secrets in two blobs only, the model and the generated environment
// file. Both begin with a keyed hash of their content, so that their digests, which
// are public, say nothing about a secret in them.
package compose
