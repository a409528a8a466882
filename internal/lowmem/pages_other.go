//go:build !linux

package lowmem

// dropProgramPages does nothing: only Linux counts these pages where people look.
func dropProgramPages() {}
