// Command link measures the link between core and agents: the real hub, peer and noise
// code beside the cheapest thing that could do the same work, in one run. Server and
// agents are separate processes, so that their CPU and memory can be told apart.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
)

func main() {
	agents := flag.Int("agents", 5000, "how many agents connect")
	rounds := flag.Int("rounds", 5, "how often each figure is taken; the median counts")
	role := flag.String("role", "", "used by the program itself, for its other processes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *role, *agents, *rounds)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "link:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, role string, agents, rounds int) error {
	if err := raiseFileLimit(); err != nil {
		return err
	}
	switch role {
	case "":
		return measure(ctx, agents, rounds)
	case "server":
		if os.Getenv("GOGC") == "" {
			debug.SetGCPercent(50) // as the real core does
		}
		return serveCommands(ctx, newServer().command)
	case "agents":
		return serveCommands(ctx, newFleet().command)
	}
	return errors.New("unknown role")
}
