//go:build unix

package exit_test

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/varanhq/varan/cmd/internal/exit"
)

func TestFirstSignalCancelsTheContext(t *testing.T) {
	ctx, stop := exit.Signals(t.Context())
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Errorf("context ended with %v", ctx.Err())
	}
}
