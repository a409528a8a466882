// Command gen writes docs/rules.md from the registry of rules.
package main

import (
	"fmt"
	"os"

	"github.com/varanhq/varan/sync/rules"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FILE")
		os.Exit(64) //nolint:forbidigo // this is a main
	}
	if err := os.WriteFile(os.Args[1], rules.Markdown(), 0o644); err != nil { //nolint:gosec // documentation is for everyone
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1) //nolint:forbidigo // this is a main
	}
}
