// Package demoservice is the program inside the demo's and the tests' containers: a
// small HTTP service that can also fail in the ways services fail. The images are made
// from the running binary itself, so that nothing has to be pulled.
package demoservice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Config says how the service behaves.
type Config struct {
	// Listen is the address to serve on; empty serves nothing and only waits.
	Listen string
	// Message is what it answers with; "$NAME" and "${NAME}" are replaced from the
	// environment, and "@/path" answers with the content of that file as it is now.
	Message string
	// Unhealthy makes /healthz answer 500.
	Unhealthy bool
	// ExitAfter ends the service by itself with ExitCode; negative means never.
	ExitAfter time.Duration
	ExitCode  int
	Stdout    io.Writer
}

// ExitError carries the code that ExitAfter asked for.
type ExitError struct{ Code int }

// Error says the code.
func (e ExitError) Error() string { return fmt.Sprintf("exiting with code %d, as asked", e.Code) }

// Run serves until ctx ends or the configured exit.
func Run(ctx context.Context, cfg Config) error {
	fmt.Fprintf(cfg.Stdout, "started: %s\n", text(cfg.Message))
	exit := make(<-chan time.Time)
	if cfg.ExitAfter >= 0 {
		timer := time.NewTimer(cfg.ExitAfter)
		defer timer.Stop()
		exit = timer.C
	}
	served := make(chan error, 1)
	if cfg.Listen != "" {
		server := &http.Server{Addr: cfg.Listen, Handler: handler(cfg), ReadHeaderTimeout: 5 * time.Second}
		defer func() { _ = server.Close() }()
		go func() { served <- server.ListenAndServe() }()
	}
	select {
	case <-ctx.Done():
		return nil
	case <-exit:
		fmt.Fprintf(cfg.Stdout, "exiting with code %d\n", cfg.ExitCode)
		return ExitError{Code: cfg.ExitCode}
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", cfg.Listen, err)
	}
}

func handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if cfg.Unhealthy {
			http.Error(w, "unhealthy, as asked", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, text(cfg.Message))
	})
	return mux
}

// text resolves a message: a file's content, or a text with environment variables.
func text(message string) string {
	if path, ok := strings.CutPrefix(message, "@"); ok {
		content, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		return strings.TrimSpace(string(content))
	}
	return os.ExpandEnv(message)
}

// Probe asks a URL once and fails unless it answers 200. It is the container's health
// check, since the image holds no shell.
func Probe(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("probe %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("probe %s: %w", url, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New("probe " + url + ": " + resp.Status)
	}
	return nil
}
