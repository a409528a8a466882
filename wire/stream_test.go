package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/varanhq/varan/wire"
)

// serveBytes answers with a stream of content, and then err.
func serveBytes(content []byte, err error) wire.HandlerFunc {
	return func(_ context.Context, _ wire.Verb, _ []byte, stream io.Writer) (any, error) {
		if _, err := stream.Write(content); err != nil {
			return nil, err
		}
		return nil, err
	}
}

func TestStreamsCarryAnyAmountInOrder(t *testing.T) {
	content := make([]byte, 3<<20+17)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(content)
	agent, _ := link(t, nil, serveBytes(content, nil))
	var wg sync.WaitGroup
	for range 30 { // more than get the large window
		wg.Go(func() {
			stream, err := agent.OpenStream(t.Context(), wire.VerbBlobs, nil)
			if err != nil {
				t.Error(err)
				return
			}
			got, err := io.ReadAll(stream)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v; want the %d that were sent", len(got), err, len(content))
			}
			_ = stream.Close()
		})
	}
	wg.Wait()
}

func TestAStreamsErrorComesAfterItsBytes(t *testing.T) {
	agent, _ := link(t, nil, serveBytes([]byte("half"), wire.Errorf(wire.CodeNotFound, "the rest is gone")))
	stream, err := agent.OpenStream(t.Context(), wire.VerbBlobs, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(stream)
	if string(got) != "half" {
		t.Errorf("read %q", got)
	}
	wantCode(t, err, wire.CodeNotFound)
}

func TestAStreamWaitsForItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var written int
		handler := wire.HandlerFunc(func(_ context.Context, verb wire.Verb, body []byte, stream io.Writer) (any, error) {
			if verb == wire.VerbHello {
				return echo(t.Context(), verb, body, nil)
			}
			for range 1000 {
				n, err := stream.Write(make([]byte, 1000))
				written += n
				if err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		agent, _ := link(t, nil, handler)
		stream, err := agent.OpenStream(t.Context(), wire.VerbLogs, nil)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if written < 250_000 || written > 256<<10 {
			t.Errorf("%d bytes were written with nobody reading, want about 256 KiB", written)
		}
		if err := agent.Call(t.Context(), wire.VerbHello, nil, nil); err != nil {
			t.Errorf("a waiting stream stops others: %v", err)
		}
		got, err := io.ReadAll(stream)
		if err != nil || len(got) != 1_000_000 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func TestClosingAStreamStopsItsWriter(t *testing.T) {
	for name, stop := range map[string]func(stream io.Closer, cancel func()){
		"by Close":   func(stream io.Closer, _ func()) { _ = stream.Close() },
		"by context": func(_ io.Closer, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			stopped := make(chan error, 1)
			agent, _ := link(t, nil, wire.HandlerFunc(
				func(_ context.Context, _ wire.Verb, _ []byte, stream io.Writer) (any, error) {
					for {
						if _, err := stream.Write(make([]byte, 1000)); err != nil {
							stopped <- err
							return nil, err
						}
					}
				}))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream, err := agent.OpenStream(ctx, wire.VerbLogs, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(stream, make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			stop(stream, cancel)
			if err := <-stopped; err == nil {
				t.Error("the writer goes on")
			}
			for err == nil {
				_, err = stream.Read(make([]byte, 100))
			}
			if !errors.Is(err, io.ErrClosedPipe) && !errors.Is(err, context.Canceled) {
				t.Errorf("Read = %v", err)
			}
		})
	}
}

func TestNothingFollowsAStreamsEnd(t *testing.T) {
	late := make(chan io.Writer, 1)
	agent, _ := link(t, nil, wire.HandlerFunc(
		func(_ context.Context, _ wire.Verb, _ []byte, stream io.Writer) (any, error) {
			late <- stream
			return nil, nil
		}))
	stream, err := agent.OpenStream(t.Context(), wire.VerbLogs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(stream); err != nil || len(got) > 0 {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := (<-late).Write([]byte("x")); err == nil {
		t.Error("a handler wrote after it had returned")
	}
}
