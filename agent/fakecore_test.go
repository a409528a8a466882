package agent_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/varanhq/varan/agent"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/fakeengine"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
)

// fakeCore is the other end of the link, on the real multiplexer. It answers what an
// agent asks and hands everything it hears to the test.
type fakeCore struct {
	t   *testing.T
	key noise.PrivateKey
	// sessions gets each session after its Hello was answered.
	sessions chan *coreSession

	mu      sync.Mutex
	epoch   uint64
	content map[fleet.Digest][]byte
	refuse  error // what Dial returns, when set
	dials   []time.Time
	// rename and version, when set, are what Welcome says.
	rename  string
	version int
	ahead   time.Duration // how far its clock is
	// cutHello breaks so many connections when Hello comes.
	cutHello int
	// admit decides who may come in; nil lets everybody in.
	admit func(noise.PeerInfo) error
	// onReport sees each report when it arrives.
	onReport func(wire.Report)
	// onResult answers a result; nil accepts it.
	onResult func(s *coreSession, o fleet.Outcome) error
	// commit is what a host gets that asks for the commit of an order.
	commit []byte
	// onPropose answers the proposal of a key; nil refuses it.
	onPropose func(wire.RotateProposed) error
	// cutBlobs breaks the connection after so many bytes of the next blob stream.
	cutBlobs int
}

type coreSession struct {
	core     *fakeCore
	peer     *wire.Peer
	conn     wire.MessageConn
	key      noise.PeerInfo
	hello    wire.Hello
	epoch    uint64
	reports  chan wire.Report
	results  chan fleet.Outcome
	progress chan fleet.Progress
	ended    chan struct{}
	err      error // why the session ended, once it has
}

func newCore(t *testing.T) *fakeCore {
	t.Helper()
	key, err := noise.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return &fakeCore{t: t, key: key, sessions: make(chan *coreSession, 16), content: map[fleet.Digest][]byte{}}
}

// put stores content that agents may fetch.
func (c *fakeCore) put(text string) fleet.Digest {
	c.mu.Lock()
	defer c.mu.Unlock()
	digest := fleet.SumDigest([]byte(text))
	c.content[digest] = []byte(text)
	return digest
}

// away makes dialling fail; nil makes it work again.
func (c *fakeCore) away(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuse = err
}

func (c *fakeCore) dialled() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]time.Time(nil), c.dials...)
}

// dial is agent.Config.Dial.
func (c *fakeCore) dial(context.Context, string) (wire.MessageConn, error) {
	c.mu.Lock()
	c.dials = append(c.dials, time.Now())
	refuse := c.refuse
	c.mu.Unlock()
	if refuse != nil {
		return nil, refuse
	}
	ours, theirs := wire.Pipe()
	go c.serve(ours)
	return theirs, nil
}

// serve is one connection, from its first byte to its end.
func (c *fakeCore) serve(conn wire.MessageConn) {
	s := &coreSession{
		core: c, conn: conn, reports: make(chan wire.Report, 64), results: make(chan fleet.Outcome, 64),
		progress: make(chan fleet.Progress, 1024), ended: make(chan struct{}),
	}
	defer close(s.ended)
	secured, peer, err := noise.Respond(c.t.Context(), conn, noise.ResponderConfig{
		Key: c.key, CoreID: "core", Authenticate: c.authenticate,
	})
	if err != nil {
		return
	}
	s.key = peer
	s.peer = wire.NewPeer(secured, wire.PeerConfig{Handler: s})
	s.err = s.peer.Run(c.t.Context())
}

func (c *fakeCore) setAdmit(admit func(noise.PeerInfo) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.admit = admit
}

func (c *fakeCore) authenticate(_ context.Context, peer noise.PeerInfo) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.admit == nil {
		return nil
	}
	return c.admit(peer)
}

// Serve implements wire.Handler.
func (s *coreSession) Serve(_ context.Context, verb wire.Verb, body []byte, stream io.Writer) (any, error) {
	c := s.core
	switch verb {
	case wire.VerbHello:
		return s.welcome(body)
	case wire.VerbReport:
		if c.onReport != nil {
			var report wire.Report
			if err := wire.Decode(body, &report); err != nil {
				return nil, err
			}
			c.onReport(report)
			return nil, nil
		}
		return nil, decodeTo(body, s.reports)
	case wire.VerbProgress:
		return nil, decodeTo(body, s.progress)
	case wire.VerbResult:
		var o fleet.Outcome
		if err := wire.Decode(body, &o); err != nil {
			return nil, err
		}
		c.mu.Lock()
		answer := c.onResult
		c.mu.Unlock()
		if answer != nil {
			if err := answer(s, o); err != nil {
				return nil, err
			}
		}
		s.results <- o
		return nil, nil
	case wire.VerbBlobs:
		return nil, s.blobs(body, stream)
	case wire.VerbRegistry:
		return wire.Logins{Logins: []wire.Login{{Registry: "registry.example", Username: "ci", Password: "secret"}}}, nil
	case wire.VerbCommit:
		return wire.CommitObject{Raw: c.commit}, nil
	case wire.VerbRotatePropose:
		if c.onPropose == nil {
			break
		}
		var proposed wire.RotateProposed
		if err := wire.Decode(body, &proposed); err != nil {
			return nil, err
		}
		return wire.RotateAccepted{}, c.onPropose(proposed)
	case wire.VerbRotateConfirm:
		return wire.RotateDone{}, nil
	case wire.VerbApply, wire.VerbCancel, wire.VerbObserve, wire.VerbLogs, wire.VerbHost, wire.VerbFiles, wire.VerbProjects,
		wire.VerbRotate, wire.VerbCoreKey, wire.VerbRest:
	}
	return nil, wire.UnknownVerb(verb)
}

func decodeTo[T any](body []byte, to chan<- T) error {
	var v T
	if err := wire.Decode(body, &v); err != nil {
		return err
	}
	to <- v
	return nil
}

func (s *coreSession) welcome(body []byte) (any, error) {
	if err := wire.Decode(body, &s.hello); err != nil {
		return nil, err
	}
	c := s.core
	c.mu.Lock()
	if c.cutHello > 0 {
		c.cutHello--
		c.mu.Unlock()
		s.cut()
		return nil, errors.New("cut")
	}
	c.epoch++
	s.epoch = c.epoch
	welcome := wire.Welcome{
		Version: cmp.Or(c.version, wire.Version), Core: "core", Server: cmp.Or(c.rename, s.hello.Server),
		Epoch: s.epoch, Time: time.Now().Add(c.ahead),
	}
	c.mu.Unlock()
	c.sessions <- s
	return welcome, nil
}

func (s *coreSession) blobs(body []byte, stream io.Writer) error {
	var req wire.BlobsRequest
	if err := wire.Decode(body, &req); err != nil {
		return err
	}
	s.core.mu.Lock()
	cut := s.core.cutBlobs
	s.core.cutBlobs = 0
	s.core.mu.Unlock()
	out := bufio.NewWriter(stream)
	for _, digest := range req.Digests {
		s.core.mu.Lock()
		content, ok := s.core.content[digest]
		s.core.mu.Unlock()
		if !ok {
			return wire.Errorf(wire.CodeNotFound, "no blob %s", digest.Short())
		}
		blob := append(binary.BigEndian.AppendUint64(nil, uint64(len(content))), content...)
		if cut > 0 && cut < len(blob) {
			_, _ = stream.Write(blob[:cut])
			s.cut()
			return errors.New("cut")
		}
		_, _ = out.Write(blob)
	}
	return out.Flush()
}

// cut breaks the connection without a word.
func (s *coreSession) cut() { _ = s.conn.Close() }

// order sends an order with the session's epoch.
func (s *coreSession) order(order fleet.Order) (wire.Accepted, error) {
	var accepted wire.Accepted
	err := s.peer.Call(s.core.t.Context(), wire.VerbApply, wire.OrderRequest{Epoch: s.epoch, Order: order}, &accepted)
	return accepted, err
}

// mustOrder is order for one that is new.
func (s *coreSession) mustOrder(order fleet.Order) {
	s.core.t.Helper()
	if accepted, err := s.order(order); err != nil || accepted.Outcome != nil {
		s.core.t.Fatalf("order %s: %+v, %v", order.ID, accepted, err)
	}
}

// rig is an agent, its engine and its core, in one synctest bubble.
type rig struct {
	t      *testing.T
	core   *fakeCore
	engine *fakeengine.Engine
	dir    string
	logs   *logBuffer
	cfg    agent.Config

	stop context.CancelFunc
	done <-chan struct{}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, core: newCore(t), engine: fakeengine.New("alpha"), dir: t.TempDir(), logs: &logBuffer{}}
	r.cfg = agent.Config{
		Dir:            r.dir,
		Server:         "alpha",
		Cores:          []string{"ws://core.example"},
		CorePublicKeys: []string{r.core.key.Public().String()},
		Engine:         r.engine,
		Logger:         slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Dial:           r.core.dial,
	}
	return r
}

// start runs the agent until stopped or the test ends.
func (r *rig) start() {
	r.t.Helper()
	a, err := agent.New(r.cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	r.stop, r.done = cancel, done
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			r.t.Errorf("Run: %v", err)
		}
	}()
	r.t.Cleanup(func() {
		cancel()
		<-done
	})
}

// stopped ends the agent and waits for it.
func (r *rig) stopped() {
	r.t.Helper()
	r.stop()
	<-r.done
}

// session waits for the agent to connect and takes its full report.
func (r *rig) session() *coreSession {
	r.t.Helper()
	s := <-r.core.sessions
	if report := <-s.reports; !report.Full {
		r.t.Fatalf("the first report is %+v, want a full one", report)
	}
	return s
}

// logBuffer keeps what the agent logged.
type logBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// applyOrder makes an order for a release with the services web and db.
func applyOrder(id, stack, version string) fleet.Order {
	return fleet.Order{
		ID: id, Kind: fleet.OrderApply, Stack: stack, Server: "alpha", Project: stack,
		Release: fleet.Release{
			Digest: fleet.SumDigest([]byte(stack + version)), Stack: stack, Server: "alpha", Project: stack,
			Services: []fleet.Service{
				{Name: "db", Digest: fleet.SumDigest([]byte("db")), Image: "db:1", Replicas: 1},
				{Name: "web", Digest: fleet.SumDigest([]byte("web" + version)), Image: "web:" + version, Replicas: 1},
			},
		},
	}
}
