// Command varan-agent is the agent alone: what runs on Docker hosts, without the core
// and the command line.
package main

import (
	"context"
	"io"
	"os"

	"github.com/varanhq/varan/cmd/internal/agentcmd"
	"github.com/varanhq/varan/cmd/internal/exit"
	"github.com/varanhq/varan/internal/buildinfo"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as parameters.
func run(args []string, stdout, stderr io.Writer) int {
	return exit.Run("varan-agent", stderr, func() error {
		ctx, stop := exit.Signals(context.Background())
		defer stop()
		root := agentcmd.NewRoot(agentcmd.IO{Stdout: stdout, Stderr: stderr})
		root.Version = buildinfo.String()
		root.SetArgs(args)
		return root.ExecuteContext(ctx)
	})
}
