// Command language measures what it costs to read, check and plan a repository: the varan
// program over 10,000 resources beside compose-go's own load of the same Compose files, and
// core's pass over 1,000 stacks beside git's own commands, in one run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
)

func main() {
	files := flag.Int("files", 1000, "resource files; each holds ten resources, one of them a stack")
	rounds := flag.Int("rounds", 5, "how often each figure is taken; the median counts")
	bin := flag.String("bin", os.Getenv("VARAN_BIN"), "the varan binary (default $VARAN_BIN)")
	floor := flag.String("floor", "", "used by the program itself: load the Compose files of a directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, options{files: *files, rounds: *rounds, bin: *bin, floor: *floor})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "language:", err)
		os.Exit(1)
	}
}

type options struct {
	files, rounds int
	bin, floor    string
}

func run(ctx context.Context, o options) error {
	if o.floor != "" {
		return loadAll(ctx, o.floor)
	}
	dir, err := os.MkdirTemp("", "varan-language-")
	if err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tree := filepath.Join(dir, "tree")
	if err := generate(tree, o.files); err != nil {
		return err
	}
	t := &table{title: fmt.Sprintf("%d resources in %d files, medians of %d rounds, %s, %d cores",
		10*o.files, o.files, o.rounds, runtime.Version(), runtime.NumCPU())}
	if err := measureValidate(ctx, t, o, tree); err != nil {
		return err
	}
	if err := measurePass(ctx, t, o, dir, tree); err != nil {
		return err
	}
	t.print(os.Stdout)
	return nil
}
