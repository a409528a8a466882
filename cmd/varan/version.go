package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/internal/buildinfo"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which build this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{
					"version": buildinfo.Version(), "commit": buildinfo.Commit(),
					"go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH,
				})
			}
			fmt.Fprintf(a.stdout, "varan %s\n", buildinfo.String())
			return nil
		},
	}
}
