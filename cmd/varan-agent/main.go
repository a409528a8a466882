// Command varan-agent is the agent alone: what runs on Docker hosts, without the core
// and the command line.
package main

import (
	"os"

	"github.com/varanhq/varan/cmd/internal/agentcmd"
)

func main() {
	os.Exit(agentcmd.Run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
