//go:build !unix

package policy

import "io/fs"

// ownedByUs trusts the file system's own rules where files have no owner of this kind.
func ownedByUs(fs.FileInfo) bool { return true }
