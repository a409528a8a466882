package hub_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/core/hub"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

func anOrder(id string) fleet.Order {
	return fleet.Order{ID: id, Kind: fleet.OrderApply, Stack: "web", Server: "alpha", Project: "web"}
}

type dispatched struct {
	outcome fleet.Outcome
	err     error
}

func (c *core) dispatch(ctx context.Context, order fleet.Order, content blobs, progress func(fleet.Progress)) <-chan dispatched {
	done := make(chan dispatched, 1)
	if progress == nil {
		progress = func(fleet.Progress) {}
	}
	go func() {
		outcome, err := c.hub.Dispatch(ctx, order, content, progress)
		done <- dispatched{outcome, err}
	}()
	return done
}

// takes makes the agent accept orders and hand them to the test.
func (a *agent) takes() <-chan wire.OrderRequest {
	orders := make(chan wire.OrderRequest, 10)
	a.on(wire.VerbApply, func(_ context.Context, _ wire.Verb, body []byte, _ io.Writer) (any, error) {
		var req wire.OrderRequest
		err := wire.Decode(body, &req)
		orders <- req
		return wire.Accepted{}, err
	})
	return orders
}

func (a *agent) result(o fleet.Outcome) {
	a.t.Helper()
	if err := a.peer.Call(a.t.Context(), wire.VerbResult, o, nil); err != nil {
		a.t.Error(err)
	}
}

func succeeded(id string) fleet.Outcome {
	return fleet.Outcome{Order: id, Stack: "web", Status: fleet.OutcomeSucceeded}
}

func TestAnOrderWithBlobsAndProgress(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha")
	orders := a.takes()
	content := blobs{}
	order := anOrder("o1")
	order.Release.Model = content.put("services: {}")
	order.Release.Files = []fleet.File{{Path: "empty", Digest: content.put("")}, {Path: "big", Digest: content.put(strings.Repeat("x", 1<<20))}}
	content.put("not of this release")
	heard := make(chan fleet.Progress, 10)
	done := c.dispatch(t.Context(), order, content, func(p fleet.Progress) { heard <- p })
	req := <-orders
	if diff := cmp.Diff(wire.OrderRequest{Epoch: 1, Order: order}, req); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	digests := []fleet.Digest{order.Release.Files[1].Digest, order.Release.Model, order.Release.Files[0].Digest}
	stream, err := a.peer.OpenStream(t.Context(), wire.VerbBlobs, wire.BlobsRequest{Order: "o1", Digests: digests})
	if err != nil {
		t.Fatal(err)
	}
	for _, digest := range digests {
		var size uint64
		if err := binary.Read(stream, binary.BigEndian, &size); err != nil {
			t.Fatal(err)
		}
		blob := make([]byte, size)
		if _, err := io.ReadFull(stream, blob); err != nil || fleet.SumDigest(blob) != digest {
			t.Errorf("blob of %d bytes is not %s: %v", size, digest.Short(), err)
		}
	}
	if rest, err := io.ReadAll(stream); err != nil || len(rest) > 0 {
		t.Errorf("after the blobs: %d bytes, %v", len(rest), err)
	}
	for _, p := range []fleet.Progress{
		{Order: "another", Phase: fleet.PhaseUp}, {Order: "o1", Stack: "a lie", Phase: fleet.PhasePull, Text: "half\x1b[2J", Percent: 150},
	} {
		if err := a.peer.Notify(t.Context(), wire.VerbProgress, p); err != nil {
			t.Fatal(err)
		}
	}
	want := fleet.Progress{Order: "o1", Stack: "web", Phase: fleet.PhasePull, Text: "half\ufffd[2J", Percent: 100}
	if diff := cmp.Diff(want, <-heard); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	outcome := succeeded("o1")
	outcome.Recreated = []string{"app"}
	a.result(outcome)
	if got := <-done; got.err != nil || !cmp.Equal(got.outcome, outcome) {
		t.Errorf("outcome %+v, %v", got.outcome, got.err)
	}
}

func TestP11BlobsAreOnlyForOrdersThatNameThem(t *testing.T) {
	c := newCore(t, nil)
	a, b := c.online(c.register("alpha"), "alpha"), c.online(c.register("beta"), "beta")
	orders := a.takes()
	content := blobs{}
	order := anOrder("o1")
	order.Release.Model = content.put("mine")
	other := content.put("another stack's secret")
	done := c.dispatch(t.Context(), order, content, nil)
	<-orders
	for name, try := range map[string]struct {
		agent   *agent
		order   string
		digests []fleet.Digest
		code    wire.Code
	}{
		"a blob the release does not name": {a, "o1", []fleet.Digest{other}, wire.CodeDenied},
		"more blobs than there are":        {a, "o1", []fleet.Digest{order.Release.Model, order.Release.Model}, wire.CodeTooLarge},
		"no such order":                    {a, "o2", []fleet.Digest{order.Release.Model}, wire.CodeNotFound},
		"another server's order":           {b, "o1", []fleet.Digest{order.Release.Model}, wire.CodeNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := try.agent.peer.OpenStream(t.Context(), wire.VerbBlobs, wire.BlobsRequest{Order: try.order, Digests: try.digests})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(stream)
			wantCode(t, err, try.code)
			if len(got) > 0 {
				t.Errorf("%d bytes were sent", len(got))
			}
		})
	}
	wantCode(t, a.peer.Call(t.Context(), wire.VerbBlobs, wire.BlobsRequest{Order: "o1"}, nil), wire.CodeBadRequest)
	// What the content store says when it fails is for the core's log.
	delete(content, order.Release.Model)
	stream, err := a.peer.OpenStream(t.Context(), wire.VerbBlobs, wire.BlobsRequest{Order: "o1", Digests: []fleet.Digest{order.Release.Model}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(stream)
	wantCode(t, err, wire.CodeInternal)
	a.result(succeeded("o1"))
	<-done
	stream, err = a.peer.OpenStream(t.Context(), wire.VerbBlobs, wire.BlobsRequest{Order: "o1", Digests: []fleet.Digest{order.Release.Model}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(stream)
	wantCode(t, err, wire.CodeNotFound)
}

func TestAnOrderForAnAbsentAgentIsAnError(t *testing.T) {
	c := newCore(t, nil)
	c.register("alpha")
	got := <-c.dispatch(t.Context(), anOrder("o1"), nil, nil)
	if offline, ok := errors.AsType[*hub.OfflineError](got.err); !ok || offline.Server != "alpha" {
		t.Errorf("Dispatch = %v", got.err)
	}
	if _, err := c.hub.Logs(t.Context(), "alpha", wire.LogsRequest{Stack: "web"}); err == nil {
		t.Error("logs of an absent agent")
	}
	if err := c.hub.Cancel(t.Context(), "alpha", "o1"); err == nil {
		t.Error("a cancel for an absent agent")
	}
}

func TestAnOrderTheAgentRefusesIsAnError(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha")
	a.on(wire.VerbApply, func(context.Context, wire.Verb, []byte, io.Writer) (any, error) {
		return nil, wire.Errorf(wire.CodeBusy, "too many orders")
	})
	got := <-c.dispatch(t.Context(), anOrder("o1"), nil, nil)
	wantCode(t, got.err, wire.CodeBusy)
}

func TestAnOrderIsDispatchedOnce(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha")
	orders := a.takes()
	first := c.dispatch(t.Context(), anOrder("o1"), nil, nil)
	<-orders
	if got := <-c.dispatch(t.Context(), anOrder("o1"), nil, nil); got.err == nil {
		t.Error("the same order twice at once")
	}
	a.result(succeeded("o1"))
	if got := <-first; got.err != nil {
		t.Error(got.err)
	}
}

func TestAnOutcomeComesOverALaterSession(t *testing.T) {
	for name, again := range map[string]struct {
		running []string
		accept  wire.Accepted
		offered bool // the core gives the order once more
	}{
		"the agent still works on it":          {running: []string{"o1"}},
		"the agent was done when it came back": {accept: wire.Accepted{Outcome: new(succeeded("o1"))}, offered: true},
		"the agent lost its memory":            {offered: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCore(t, nil)
			key := c.register("alpha")
			a := c.online(key, "alpha")
			orders := a.takes()
			done := c.dispatch(t.Context(), anOrder("o1"), nil, nil)
			<-orders
			_ = a.conn.Close()
			c.heard("alpha")
			a, err := c.dial(key, noise.PurposeSession, nil)
			if err != nil {
				t.Fatal(err)
			}
			epochs := make(chan uint64, 10)
			a.on(wire.VerbApply, func(_ context.Context, _ wire.Verb, body []byte, _ io.Writer) (any, error) {
				var req wire.OrderRequest
				err := wire.Decode(body, &req)
				epochs <- req.Epoch
				return again.accept, err
			})
			hello := wire.Hello{Version: wire.Version, Server: "alpha", Running: again.running}
			if err := a.peer.Call(t.Context(), wire.VerbHello, hello, nil); err != nil {
				t.Fatal(err)
			}
			if again.offered {
				if epoch := <-epochs; epoch != 2 {
					t.Errorf("the order came with epoch %d, want 2", epoch)
				}
			}
			if again.accept.Outcome == nil {
				a.result(succeeded("o1"))
			}
			if got := <-done; got.err != nil || got.outcome.Status != fleet.OutcomeSucceeded {
				t.Errorf("outcome %+v, %v", got.outcome, got.err)
			}
			if !again.offered && len(epochs) > 0 {
				t.Error("the agent was given an order that it said it has")
			}
		})
	}
}

func TestAStaleEpochIsTriedAgainOnTheNewSession(t *testing.T) {
	c := newCore(t, nil)
	key := c.register("alpha")
	a := c.online(key, "alpha")
	refused := make(chan struct{})
	a.on(wire.VerbApply, func(context.Context, wire.Verb, []byte, io.Writer) (any, error) {
		close(refused)
		return nil, wire.Errorf(wire.CodeStale, "there is a newer session")
	})
	done := c.dispatch(t.Context(), anOrder("o1"), nil, nil)
	<-refused
	again, err := c.dial(key, noise.PurposeSession, nil)
	if err != nil {
		t.Fatal(err)
	}
	orders := again.takes()
	if err := again.peer.Call(t.Context(), wire.VerbHello, wire.Hello{Version: 1, Server: "alpha"}, nil); err != nil {
		t.Fatal(err)
	}
	if req := <-orders; req.Epoch != 2 {
		t.Errorf("epoch %d, want 2", req.Epoch)
	}
	again.result(succeeded("o1"))
	if got := <-done; got.err != nil {
		t.Error(got.err)
	}
}

func TestP07OutcomesNobodyWaitsFor(t *testing.T) {
	c := newCore(t, nil)
	key := c.register("alpha")
	a, b := c.online(key, "alpha"), c.online(c.register("beta"), "beta")
	orders := a.takes()
	ctx, cancel := context.WithCancel(t.Context())
	done := c.dispatch(ctx, anOrder("o1"), nil, nil)
	<-orders
	b.result(succeeded("o1")) // not beta's to say
	if got := <-c.outcomes; got.Order != "o1" {
		t.Errorf("outcome %+v", got)
	}
	cancel()
	if got := <-done; !errors.Is(got.err, context.Canceled) {
		t.Errorf("Dispatch = %+v", got)
	}
	late := succeeded("o1")
	late.Reason, late.Log = "red\x1b[31m", strings.Repeat("é", 64<<10)+"\nend"
	a.result(late)
	got := <-c.outcomes
	if got.Reason != "red\ufffd[31m" || len(got.Log) > 64<<10 || !strings.HasSuffix(got.Log, "é\nend") {
		t.Errorf("reason %q, log of %d bytes ending in %q", got.Reason, len(got.Log), got.Log[len(got.Log)-8:])
	}
	c.connect(key, "alpha")
	err := a.peer.Call(t.Context(), wire.VerbResult, succeeded("o1"), nil)
	if !errors.Is(err, wire.ErrClosed) {
		wantCode(t, err, wire.CodeStale)
	}
	if len(c.outcomes) > 0 {
		t.Error("an outcome over a session that is over")
	}
}

func TestCancelAndLogsReachTheAgent(t *testing.T) {
	c := newCore(t, nil)
	a := c.online(c.register("alpha"), "alpha")
	canceled := make(chan string, 1)
	a.on(wire.VerbCancel, func(_ context.Context, _ wire.Verb, body []byte, _ io.Writer) (any, error) {
		var req wire.CancelRequest
		err := wire.Decode(body, &req)
		canceled <- req.Order
		return nil, err
	})
	a.on(wire.VerbLogs, func(_ context.Context, _ wire.Verb, body []byte, stream io.Writer) (any, error) {
		_, err := fmt.Fprintf(stream, "%s\n", body)
		return nil, err
	})
	if err := c.hub.Cancel(t.Context(), "alpha", "o1"); err != nil {
		t.Fatal(err)
	}
	if got := <-canceled; got != "o1" {
		t.Errorf("canceled %q", got)
	}
	stream, err := c.hub.Logs(t.Context(), "alpha", wire.LogsRequest{Stack: "web", Tail: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Close() })
	if got, err := io.ReadAll(stream); err != nil || string(got) != `{"stack":"web","tail":5}`+"\n" {
		t.Errorf("logs %q, %v", got, err)
	}
}
