// Command bench measures the whole path, from a webhook to running containers, with a
// real core, a real agent and the machine's Docker. For each number of stacks it prints
// the same work done with plain calls to the Engine beside it: the floor nobody can beat.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

func main() {
	sizes := flag.String("n", "10,50,100", "numbers of stacks, separated by commas")
	parallel := flag.Int("parallel", 4, "engine calls side by side, ours and the floor's")
	bin := flag.String("bin", os.Getenv("VARAN_BIN"), "the varan binary (default $VARAN_BIN)")
	agentBin := flag.String("agent-bin", os.Getenv("VARAN_AGENT_BIN"), "the varan-agent binary (default $VARAN_AGENT_BIN)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := benchmark(ctx, *sizes, *parallel, *bin, *agentBin)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func benchmark(ctx context.Context, sizes string, parallel int, bin, agentBin string) error {
	b, err := newBench(ctx, bin, agentBin, parallel)
	if err != nil {
		return err
	}
	defer b.close(context.WithoutCancel(ctx))
	var columns []column
	for text := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 2 {
			return fmt.Errorf("-n: %q is not a number of stacks", text)
		}
		fmt.Fprintf(os.Stderr, "%s  %d stacks\n", time.Now().Format(time.TimeOnly), n)
		c, err := b.measure(ctx, n)
		if err != nil {
			return fmt.Errorf("%d stacks: %w", n, err)
		}
		columns = append(columns, c)
	}
	printTable(os.Stdout, columns, parallel)
	return nil
}
