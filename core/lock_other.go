//go:build !unix

package core

import "os"

// lockFile does nothing: a core runs on Unix, and the command line elsewhere only calls one.
func lockFile(*os.File) error { return nil }

func unlockFile(*os.File) error { return nil }
