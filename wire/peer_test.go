package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varanhq/varan/wire"
)

// link runs two peers against each other until the test ends. Either handler may be nil.
func link(t *testing.T, agent, core wire.Handler) (a, c *wire.Peer) {
	t.Helper()
	ac, cc := wire.Pipe()
	a = wire.NewPeer(ac, wire.PeerConfig{Initiator: true, Handler: agent})
	c = wire.NewPeer(cc, wire.PeerConfig{Handler: core})
	run(t, a)
	run(t, c)
	return a, c
}

func run(t *testing.T, p *wire.Peer) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		ended <- p.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return ended
}

// echo answers with the request's body.
func echo(_ context.Context, _ wire.Verb, body []byte, _ io.Writer) (any, error) {
	return json.RawMessage(body), nil
}

func wantCode(t *testing.T, err error, code wire.Code) {
	t.Helper()
	if e, ok := errors.AsType[*wire.Error](err); !ok || e.Code != code {
		t.Errorf("error %v, want one with code %s", err, code)
	}
}

func TestCallsGoBothWays(t *testing.T) {
	handler := func(side string) wire.HandlerFunc {
		return func(_ context.Context, verb wire.Verb, body []byte, _ io.Writer) (any, error) {
			var req wire.CancelRequest
			if err := wire.Decode(body, &req); err != nil {
				return nil, err
			}
			return wire.Welcome{Core: side, Server: string(verb) + " " + req.Order}, nil
		}
	}
	agent, core := link(t, handler("agent"), handler("core"))
	for want, p := range map[string]*wire.Peer{"core": agent, "agent": core} {
		var got wire.Welcome
		if err := p.Call(t.Context(), "test", wire.CancelRequest{Order: "o1"}, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(wire.Welcome{Core: want, Server: "test o1"}, got); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
	}
}

func TestEmptyRequestsAndAnswers(t *testing.T) {
	agent, _ := link(t, nil, wire.HandlerFunc(
		func(_ context.Context, _ wire.Verb, body []byte, stream io.Writer) (any, error) {
			if len(body) > 0 || stream != nil {
				return nil, fmt.Errorf("body %q, stream %v", body, stream)
			}
			return nil, nil
		}))
	if err := agent.Call(t.Context(), wire.VerbReport, nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestMessagesOfAnySizeArrive(t *testing.T) {
	agent, _ := link(t, nil, wire.HandlerFunc(echo))
	for _, size := range []int{0, 1, 65000, 65507, 65508, 65509, 65514, 131028, 1 << 20, 16<<20 - 200} {
		want := bytes.Repeat([]byte("x"), size)
		var got json.RawMessage
		if err := agent.Call(t.Context(), wire.VerbReport, json.RawMessage(want), &got); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back as %d others", size, len(got))
		}
	}
	tooLarge := json.RawMessage(make([]byte, 16<<20))
	wantCode(t, agent.Call(t.Context(), wire.VerbReport, tooLarge, nil), wire.CodeTooLarge)
	wantCode(t, agent.Notify(t.Context(), wire.VerbReport, tooLarge[:40<<10]), wire.CodeTooLarge)
	if err := agent.Call(t.Context(), wire.VerbReport, nil, nil); err != nil {
		t.Errorf("the connection did not survive a refused message: %v", err)
	}
}

func TestTooLargeAnAnswerIsAnError(t *testing.T) {
	agent, _ := link(t, nil, wire.HandlerFunc(
		func(context.Context, wire.Verb, []byte, io.Writer) (any, error) {
			return json.RawMessage(make([]byte, 16<<20+1)), nil
		}))
	wantCode(t, agent.Call(t.Context(), wire.VerbObserve, nil, nil), wire.CodeTooLarge)
}

func TestErrorsAreTyped(t *testing.T) {
	fail := map[wire.Verb]error{
		"stale":  wire.Errorf(wire.CodeStale, "epoch 3 is over"),
		"wrap":   fmt.Errorf("apply: %w", &wire.Error{Code: wire.CodeBusy, Message: "later", Retryable: true}),
		"inside": errors.New("open /etc/varan/secret.db: no such file"),
	}
	handler := wire.HandlerFunc(func(_ context.Context, verb wire.Verb, body []byte, _ io.Writer) (any, error) {
		switch {
		case verb == "panic":
			panic("at the disco")
		case verb == "decode":
			return nil, wire.Decode(body, &wire.Hello{})
		case fail[verb] != nil:
			return nil, fail[verb]
		}
		return nil, wire.UnknownVerb(verb)
	})
	agent, core := link(t, handler, handler)
	call := func(p *wire.Peer, verb wire.Verb) *wire.Error {
		t.Helper()
		e, ok := errors.AsType[*wire.Error](p.Call(t.Context(), verb, wire.Hello{}, nil))
		if !ok {
			t.Fatalf("%s: no typed error", verb)
		}
		return e
	}
	if diff := cmp.Diff(fail["stale"], error(call(agent, "stale"))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if e := call(agent, "wrap"); e.Code != wire.CodeBusy || !e.Retryable {
		t.Errorf("a wrapped error came as %v", e)
	}
	if e := call(agent, "inside"); e.Code != wire.CodeInternal || strings.Contains(e.Message, "secret.db") {
		t.Errorf("a core shows an agent its inside: %v", e)
	}
	if e := call(core, "inside"); !strings.Contains(e.Message, "secret.db") {
		t.Errorf("an agent hides from its core what is wrong: %v", e)
	}
	wantCode(t, call(agent, "panic"), wire.CodeInternal)
	unknown := call(agent, "fly")
	want := fmt.Sprintf(`unknown verb "fly": this side speaks protocol versions %d to %d`, wire.MinVersion, wire.Version)
	if unknown.Code != wire.CodeUnknownVerb || unknown.Message != want {
		t.Errorf("unknown verb: %v, want %s", unknown, want)
	}
	if err := agent.Call(t.Context(), "decode", json.RawMessage(`{"version":"one"}`), nil); err == nil {
		t.Error("a wrong type was accepted")
	} else {
		wantCode(t, err, wire.CodeBadRequest)
	}
}

func TestAPeerWithoutHandlerRefusesRequests(t *testing.T) {
	agent, _ := link(t, nil, nil)
	wantCode(t, agent.Call(t.Context(), wire.VerbHello, wire.Hello{}, nil), wire.CodeUnknownVerb)
}

func TestDecodeIsStrictOnTypesAndTolerantOfNewFields(t *testing.T) {
	var hello wire.Hello
	if err := wire.Decode([]byte(`{"version":1,"server":"a","from_the_future":[{}]}`), &hello); err != nil || hello.Server != "a" {
		t.Errorf("Decode = %v, %+v", err, hello)
	}
	for _, bad := range []string{``, `{"version":1} x`, `{"version":1}{}`, `{"version":"1"}`, `[]`, `{"server":1}`, `{`} {
		wantCode(t, wire.Decode([]byte(bad), &hello), wire.CodeBadRequest)
	}
}

func TestConcurrentCallsGetTheirOwnAnswers(t *testing.T) {
	agent, core := link(t, wire.HandlerFunc(echo), wire.HandlerFunc(echo))
	var wg sync.WaitGroup
	for i := range 64 {
		p := []*wire.Peer{agent, core}[i%2]
		wg.Go(func() {
			for j := range 10 {
				want := strings.Repeat(fmt.Sprintf("%d-%d ", i, j), 1+j*1500)
				var got string
				if err := p.Call(t.Context(), wire.VerbReport, want, &got); err != nil || got != want {
					t.Errorf("caller %d, call %d: %v, %d bytes, want %d", i, j, err, len(got), len(want))
					return
				}
			}
		})
	}
	wg.Wait()
}

// stall serves requests by waiting for their end.
type stall struct{ started, ended chan wire.Verb }

func newStall() stall { return stall{make(chan wire.Verb, 1000), make(chan wire.Verb, 1000)} }

func (s stall) Serve(ctx context.Context, verb wire.Verb, _ []byte, _ io.Writer) (any, error) {
	s.started <- verb
	<-ctx.Done()
	s.ended <- verb
	return nil, ctx.Err()
}

func TestCancelReachesTheHandler(t *testing.T) {
	handler := newStall()
	agent, _ := link(t, nil, handler)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- agent.Call(ctx, wire.VerbHello, nil, nil) }()
	<-handler.started
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Call = %v, want context.Canceled", err)
	}
	<-handler.ended
}

func TestRequestsUnderWayAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		handler := newStall()
		agent, _ := link(t, nil, handler)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 256 {
			wg.Go(func() { _ = agent.Call(ctx, wire.VerbHello, nil, nil) })
		}
		synctest.Wait()
		wantCode(t, agent.Call(t.Context(), wire.VerbHello, nil, nil), wire.CodeBusy)
		cancel()
		wg.Wait()
		synctest.Wait() // until the other side has answered all that were canceled
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := agent.Call(ctx, wire.VerbHello, nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after the others ended: %v, want a call that is served", err)
		}
	})
}

func TestTheEndOfTheConnectionEndsCalls(t *testing.T) {
	handler := newStall()
	ac, cc := wire.Pipe()
	agent := wire.NewPeer(ac, wire.PeerConfig{Initiator: true})
	core := wire.NewPeer(cc, wire.PeerConfig{Handler: handler})
	agentEnded, coreEnded := run(t, agent), run(t, core)
	result := make(chan error, 1)
	go func() { result <- agent.Call(t.Context(), wire.VerbHello, nil, nil) }()
	<-handler.started
	stream, err := agent.OpenStream(t.Context(), wire.VerbLogs, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = cc.Close()
	if err := <-result; !errors.Is(err, wire.ErrClosed) {
		t.Errorf("Call = %v, want ErrClosed", err)
	}
	if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, wire.ErrClosed) {
		t.Errorf("Read = %v, want ErrClosed", err)
	}
	<-handler.ended
	for _, ended := range []<-chan error{agentEnded, coreEnded} {
		if err := <-ended; err == nil {
			t.Error("Run says that all is well")
		}
	}
	if err := agent.Call(t.Context(), wire.VerbHello, nil, nil); !errors.Is(err, wire.ErrClosed) {
		t.Errorf("a later Call = %v, want ErrClosed", err)
	}
	if err := agent.Notify(t.Context(), wire.VerbProgress, nil); !errors.Is(err, wire.ErrClosed) {
		t.Errorf("a later Notify = %v, want ErrClosed", err)
	}
}

func TestCloseTellsTheOtherSideWhy(t *testing.T) {
	ac, cc := wire.Pipe()
	agent := wire.NewPeer(ac, wire.PeerConfig{Initiator: true})
	core := wire.NewPeer(cc, wire.PeerConfig{})
	agentEnded, coreEnded := run(t, agent), run(t, core)
	core.Close(t.Context(), wire.Errorf(wire.CodeReplaced, "epoch 2 took over"))
	wantCode(t, <-agentEnded, wire.CodeReplaced)
	if err := <-coreEnded; err != nil {
		t.Errorf("the side that closed ended with %v", err)
	}
}

func TestCloseDoesNotWaitForADeadPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, cc := wire.Pipe()
		core := wire.NewPeer(cc, wire.PeerConfig{})
		ended := run(t, core)
		for range 20 { // more than the pipe holds
			go func() { _ = core.Notify(t.Context(), wire.VerbProgress, nil) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		core.Close(ctx, wire.Errorf(wire.CodeShutdown, "bye"))
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestPingsKeepAQuietConnectionOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		agent, core := link(t, wire.HandlerFunc(echo), wire.HandlerFunc(echo))
		wait(t, time.Hour)
		for _, p := range []*wire.Peer{agent, core} {
			if err := p.Call(t.Context(), wire.VerbHello, nil, nil); err != nil {
				t.Errorf("after an hour: %v", err)
			}
		}
	})
}

func TestASilentPeerIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, cc := wire.Pipe()
		start := time.Now()
		err := <-run(t, wire.NewPeer(cc, wire.PeerConfig{}))
		if err == nil {
			t.Error("Run says that all is well")
		}
		if took := time.Since(start); took != 75*time.Second {
			t.Errorf("given up after %v, want 75s", took)
		}
	})
}

func TestNotificationsComeInOrderAndTheOldestIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []int
		gate := make(chan struct{})
		agent, _ := link(t, nil, wire.HandlerFunc(
			func(_ context.Context, _ wire.Verb, body []byte, _ io.Writer) (any, error) {
				<-gate
				var n int
				err := wire.Decode(body, &n)
				got = append(got, n)
				return nil, err
			}))
		for i := range 100 {
			if err := agent.Notify(t.Context(), wire.VerbProgress, i); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		close(gate)
		synctest.Wait()
		want := []int{0}
		for i := 36; i < 100; i++ {
			want = append(want, i)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("notifications (-want +got):\n%s", diff)
		}
	})
}

// wait lets fake time pass.
func wait(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}

// slowClose is a connection whose writer learns that it wrote only after the other side hung up.
type slowClose struct {
	wire.MessageConn

	hungUp <-chan struct{}
}

func (c slowClose) WriteMessage(message []byte) error {
	err := c.MessageConn.WriteMessage(message)
	<-c.hungUp
	return err
}

func TestWhoeverClosedEndsWellWhenTheOtherSideHangsUpFirst(t *testing.T) {
	ac, cc := wire.Pipe()
	agent := wire.NewPeer(ac, wire.PeerConfig{Initiator: true})
	hungUp := make(chan struct{})
	core := wire.NewPeer(slowClose{cc, hungUp}, wire.PeerConfig{})
	agentEnded := run(t, agent)
	ended := make(chan error, 1)
	core.Start(t.Context(), func(err error) { ended <- err })
	go core.Close(t.Context(), wire.Errorf(wire.CodeReplaced, "epoch 2 took over"))
	wantCode(t, <-agentEnded, wire.CodeReplaced)
	close(hungUp)
	if err := <-ended; err != nil {
		t.Errorf("the side that closed ended with %v", err)
	}
}
