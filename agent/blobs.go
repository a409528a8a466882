package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/backoff"
	"github.com/varanhq/varan/wire"
)

// maxBlob bounds one blob: far above what core accepts from a repository.
const maxBlob = 64 << 20

// blobs fetches the content of one order from core. An order outlives sessions, so when
// the link breaks in the middle the rest comes over the next one.
type blobs struct {
	agent *Agent
	order string
}

// Fetch implements Blobs.
func (b *blobs) Fetch(ctx context.Context, digests []fleet.Digest, each func(fleet.Digest, []byte) error) error {
	retry := backoff.Backoff{Base: time.Second, Max: 15 * time.Second}
	for len(digests) > 0 {
		s, err := b.agent.sessions.await(ctx)
		if err != nil {
			return fmt.Errorf("wait for core: %w", err)
		}
		n, err := b.fetch(ctx, s, digests, each)
		digests = digests[n:]
		if n > 0 {
			retry.Reset()
		}
		if err == nil {
			continue
		}
		refused, isRefusal := errors.AsType[*wire.Error](err)
		own, isOwn := errors.AsType[*eachError](err)
		switch {
		case isOwn:
			return own.err
		case ctx.Err() != nil:
			return fmt.Errorf("fetch content from core: %w", ctx.Err())
		case isRefusal && !refused.Retryable && !errors.Is(err, wire.ErrClosed):
			return fmt.Errorf("fetch content from core: %w", err)
		}
		b.agent.log.WarnContext(ctx, "fetching content again", slog.String("order", b.order), slog.Any("err", err))
		if err := retry.Wait(ctx); err != nil {
			return fmt.Errorf("fetch content from core: %w", err)
		}
	}
	return nil
}

// Logins implements Blobs.
func (b *blobs) Logins(ctx context.Context) ([]wire.Login, error) {
	var answer wire.Logins
	err := b.agent.ask(ctx, "the registry account", wire.VerbRegistry, wire.RegistryRequest{Order: b.order}, &answer)
	return answer.Logins, err
}

// ask asks core for something that an order needs, over as many sessions as it takes.
func (a *Agent) ask(ctx context.Context, what string, verb wire.Verb, request, answer any) error {
	retry := backoff.Backoff{Base: time.Second, Max: 15 * time.Second}
	for {
		s, err := a.sessions.await(ctx)
		if err != nil {
			return fmt.Errorf("wait for core: %w", err)
		}
		err = s.peer.Call(ctx, verb, request, answer)
		refused, isRefusal := errors.AsType[*wire.Error](err)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil, isRefusal && !refused.Retryable && !errors.Is(err, wire.ErrClosed):
			return fmt.Errorf("ask core for %s: %w", what, err)
		}
		a.log.WarnContext(ctx, "asking core again", slog.String("for", what), slog.Any("err", err))
		if err := retry.Wait(ctx); err != nil {
			return fmt.Errorf("ask core for %s: %w", what, err)
		}
	}
}

// eachError is an error of Fetch's caller, which no other session would change.
type eachError struct{ err error }

func (e *eachError) Error() string { return e.err.Error() }

// fetch gets as many of the digests as it can over one session and returns how many.
func (b *blobs) fetch(ctx context.Context, s *session, digests []fleet.Digest, each func(fleet.Digest, []byte) error) (int, error) {
	stream, err := s.peer.OpenStream(ctx, wire.VerbBlobs, wire.BlobsRequest{Order: b.order, Digests: digests})
	if err != nil {
		return 0, err
	}
	defer func() { _ = stream.Close() }() // what matters of its end was read
	for n, digest := range digests {
		content, err := readBlob(stream)
		if err != nil {
			return n, fmt.Errorf("blob %s: %w", digest.Short(), err)
		}
		if err := each(digest, content); err != nil {
			return n, &eachError{err}
		}
	}
	return len(digests), nil
}

// readBlob reads a length and so many bytes.
func readBlob(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, unexpected(err)
	}
	size := binary.BigEndian.Uint64(head[:])
	if size > maxBlob {
		return nil, wire.Errorf(wire.CodeTooLarge, "%d bytes announced, at most %d are taken", size, maxBlob)
	}
	content := make([]byte, size)
	if _, err := io.ReadFull(r, content); err != nil {
		return nil, unexpected(err)
	}
	return content, nil
}

// unexpected makes the end of a stream that should go on an error that says so.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
