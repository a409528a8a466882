package wire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
)

// maxNotes is how many notifications wait at most; the oldest goes first.
const maxNotes = 64

// serving is a request of the other side that we did not answer yet.
type serving struct {
	cancel context.CancelFunc
	stream *outStream // nil for a plain request
}

type note struct {
	verb Verb
	body []byte
}

// requested takes a request, now that the last of it is here; work serves it.
func (p *Peer) requested(ctx context.Context, f frame) (work func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, started := p.parts[f.id]; !started {
		if err := p.newRequest(f.id); err != nil {
			return nil, err
		}
	}
	if len(p.serving) >= maxRequests {
		return nil, Errorf(CodeBusy, "more than %d requests at once", maxRequests)
	}
	message, err := p.assemble(f)
	if err != nil {
		return nil, err
	}
	rest, window := message, 0
	if f.kind == frameOpen {
		if len(rest) < 4 {
			return nil, errShortFrame
		}
		window = int(min(binary.BigEndian.Uint32(rest), maxCredit))
		rest = rest[4:]
	}
	verb, body, err := cutVerb(rest)
	if err != nil {
		return nil, err
	}
	if p.err != nil {
		return nil, p.err // nobody would cancel the handler
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &serving{cancel: cancel}
	if f.kind == frameOpen {
		s.stream = newOutStream(ctx, p, f.id, window)
	}
	if p.serving == nil {
		p.serving = make(map[uint32]*serving)
	}
	p.serving[f.id] = s
	id, size := f.id, len(message)
	return func() {
		kind, answer := p.serve(ctx, verb, body, s)
		p.answer(ctx, kind, id, answer, size)
		cancel()
	}, nil
}

// newRequest checks the id of a request that begins. The caller holds the lock.
func (p *Peer) newRequest(id uint32) error {
	if id <= p.lastPeer {
		return errors.New("the id was used before")
	}
	// Answers to our own requests are among the parts; they have a limit of their own.
	if len(p.parts) >= 2*maxRequests {
		return Errorf(CodeBusy, "more than %d requests at once", maxRequests)
	}
	p.lastPeer = id
	return nil
}

// serve calls the handler and encodes what it says.
func (p *Peer) serve(ctx context.Context, verb Verb, body []byte, s *serving) (frameType, []byte) {
	result, err := p.call(ctx, verb, body, s.stream)
	if s.stream != nil {
		s.stream.end()
	}
	var answer []byte
	if err == nil && s.stream == nil {
		answer, err = encode(result)
	}
	if err == nil && len(answer) > maxBody {
		err = Errorf(CodeTooLarge, "an answer of %d bytes", len(answer))
	}
	if err == nil {
		return frameResponse, answer
	}
	return frameError, p.refusal(ctx, verb, err)
}

// refusal encodes the answer to a request that failed.
func (p *Peer) refusal(ctx context.Context, verb Verb, cause error) []byte {
	refusal := asError(cause, p.cfg.Initiator)
	if refusal.Code == CodeInternal {
		p.cfg.Logger.LogAttrs(ctx, slog.LevelError, "request not served",
			slog.String("verb", string(verb)), slog.Any("err", cause))
	}
	answer, err := encode(refusal)
	if err != nil {
		return nil // the other side makes an internal error of that
	}
	return answer
}

// call calls the handler. A panic in it is the end of one request, not of a process
// that serves a fleet.
func (p *Peer) call(ctx context.Context, verb Verb, body []byte, stream *outStream) (result any, err error) {
	defer func() {
		if v := recover(); v != nil {
			result, err = nil, p.panicked(ctx, verb, v)
		}
	}()
	if p.cfg.Handler == nil {
		return nil, UnknownVerb(verb)
	}
	if stream == nil {
		return p.cfg.Handler.Serve(ctx, verb, body, nil)
	}
	return p.cfg.Handler.Serve(ctx, verb, body, stream)
}

// panicked writes a panic down. It is apart from call so that the stack of every
// request need not have room for it.
func (p *Peer) panicked(ctx context.Context, verb Verb, v any) error {
	p.cfg.Logger.LogAttrs(ctx, slog.LevelError, "panic in a handler",
		slog.String("verb", string(verb)), slog.String("panic", fmt.Sprint(v)),
		slog.String("stack", string(debug.Stack())))
	return errors.New("panic in a handler")
}

// answer sends the one final frame of a request. The request stops counting first, so
// that the other side's next one is welcome as soon as it has the answer.
func (p *Peer) answer(ctx context.Context, kind frameType, id uint32, body []byte, buffered int) {
	p.mu.Lock()
	p.buffered -= buffered
	delete(p.serving, id)
	if len(p.serving) == 0 {
		p.serving = nil
	}
	p.mu.Unlock()
	_ = p.send(context.WithoutCancel(ctx), kind, id, nil, body) // a failed write has ended the connection
}

// steered acts on a credit or a cancel. For requests that were answered meanwhile they
// come too late, which is no fault.
func (p *Peer) steered(f frame) error {
	p.mu.Lock()
	s, ok := p.serving[f.id]
	known := f.id <= p.lastPeer
	p.mu.Unlock()
	switch {
	case !known:
		return errors.New("no such request")
	case !ok:
		return nil
	case f.kind == frameCancel:
		s.cancel()
		return nil
	case s.stream == nil:
		return errors.New("credit for what is no stream")
	default:
		return s.stream.credit(binary.BigEndian.Uint32(f.payload))
	}
}

// notified queues a notification; work handles the queue when nobody does yet.
func (p *Peer) notified(ctx context.Context, payload []byte) (work func(), err error) {
	verb, body, err := cutVerb(bytes.Clone(payload))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.notes) >= maxNotes {
		p.notes = p.notes[1:]
	}
	p.notes = append(p.notes, note{verb, body})
	if p.noting != nil || p.err != nil {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	p.noting = cancel
	return func() {
		defer cancel()
		p.handleNotes(ctx)
	}, nil
}

// handleNotes handles notifications in order until there are none.
func (p *Peer) handleNotes(ctx context.Context) {
	for {
		p.mu.Lock()
		if len(p.notes) == 0 {
			p.notes, p.noting = nil, nil
			p.mu.Unlock()
			return
		}
		n := p.notes[0]
		p.notes = p.notes[1:]
		p.mu.Unlock()
		if _, err := p.call(ctx, n.verb, n.body, nil); err != nil {
			p.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "notification not handled",
				slog.String("verb", string(n.verb)), slog.Any("err", err))
		}
	}
}
