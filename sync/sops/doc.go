// Package sops reads and writes files encrypted in the format of SOPS, in memory: YAML,
// JSON, dotenv, INI and binary ones, for age and PGP keys.
//
// It never talks to the network, runs no program and reads no environment variable. A
// file decides nothing but which of the identities it was given are tried: files that
// name a key service are refused as they are, before anything of them is opened. What it
// reports holds key ids and places, never content or key material.
//
// Core and the command line import it; agents never do.
package sops
