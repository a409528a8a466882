package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/varanhq/varan/cmd/internal/demoservice"
	"github.com/varanhq/varan/cmd/internal/exit"
)

// demoServiceCommand is what runs inside the containers of the demo and of the tests.
func (a *app) demoServiceCommand() *cobra.Command {
	cfg := demoservice.Config{Stdout: a.stdout}
	cmd := &cobra.Command{
		Use:    "demo-service",
		Short:  "A small HTTP service, also able to fail",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := demoservice.Run(cmd.Context(), cfg)
			if asked, ok := errors.AsType[demoservice.ExitError](err); ok {
				if asked.Code == 0 {
					return nil
				}
				return &exit.Error{Code: asked.Code}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", ":8080", "address to serve on; empty serves nothing")
	cmd.Flags().StringVar(&cfg.Message, "message", "hello", "what to answer; $NAME is expanded, @/path answers with a file")
	cmd.Flags().BoolVar(&cfg.Unhealthy, "unhealthy", false, "make /healthz answer 500")
	cmd.Flags().DurationVar(&cfg.ExitAfter, "exit-after", -time.Second, "end by itself after this long")
	cmd.Flags().IntVar(&cfg.ExitCode, "exit-code", 1, "with --exit-after: the code to end with")
	cmd.AddCommand(&cobra.Command{
		Use:  "probe URL",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return demoservice.Probe(cmd.Context(), args[0])
		},
	})
	return cmd
}
