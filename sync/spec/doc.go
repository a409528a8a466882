// Package spec reads resource files: TOML in, declarations with positions and
// diagnostics out. It speaks the schema of Komodo's resource files, with the names,
// defaults and partial-config rule of that project, and the short forms people write.
//
// A declaration remembers where each of its fields was written, so that everything
// that is said about it later can point at a line. Fields and tables that are known
// but not acted on yet get a note; unknown ones are errors.
//
// Two rules differ from plain TOML. A backslash between triple double quotes is a
// plain character, as Komodo has it. And keys are compared case-sensitively, always.
//
// The package reads through fs.FS and does nothing else: no Git, no network, no
// interpolation of variables. It and agent/policy are the only importers of go-toml.
package spec
