package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
	"github.com/varanhq/varan/wire/ws"
)

// agents is the other side: one process that plays all agents.
type agents struct {
	keys  []noise.PrivateKey
	conns []io.Closer
	peers []*wire.Peer // by the index of their key
}

func newFleet() *agents { return &agents{} }

func (f *agents) command(ctx context.Context, r request) (a answer, err error) {
	switch r.Do {
	case "keys":
		a.Keys, err = f.makeKeys(r.N)
	case "storm":
		a.Took, err = f.storm(ctx, r)
	case "hello":
		err = f.hello(ctx)
	case "drop":
		f.drop()
	case "usage":
		a.Use, err = usageNow()
	default:
		err = fmt.Errorf("unknown command %q", r.Do)
	}
	return a, err
}

func (f *agents) makeKeys(n int) (public [][]byte, err error) {
	f.keys = make([]noise.PrivateKey, n)
	for i := range f.keys {
		if f.keys[i], err = noise.GenerateKey(); err != nil {
			return nil, err
		}
		key := f.keys[i].Public()
		public = append(public, key[:])
	}
	return public, nil
}

// storm connects all agents at the same instant.
func (f *agents) storm(ctx context.Context, r request) (time.Duration, error) {
	f.conns, f.peers = make([]io.Closer, r.N), make([]*wire.Peer, r.N)
	var wg sync.WaitGroup
	var failed atomic.Int64
	var first atomic.Value
	gate := make(chan struct{})
	for i := range r.N {
		wg.Go(func() {
			<-gate
			if err := f.connect(ctx, r, i); err != nil {
				failed.Add(1)
				first.CompareAndSwap(nil, err.Error())
			}
		})
	}
	start := time.Now()
	close(gate)
	wg.Wait()
	took := time.Since(start)
	if n := failed.Load(); n > 0 {
		return took, fmt.Errorf("%d of %d connections failed, the first with: %v", n, r.N, first.Load())
	}
	return took, nil
}

func (f *agents) connect(ctx context.Context, r request, i int) error {
	if r.Kind == kindTCP {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.Addr)
		if err != nil {
			return err
		}
		f.conns[i] = conn
		go answerTCP(conn)
		return nil
	}
	conn, err := ws.Dial(ctx, "ws://"+r.Addr, ws.DialConfig{})
	if err != nil {
		return err
	}
	if r.Kind == kindUpgrade {
		f.conns[i] = conn
		return nil
	}
	secured, err := noise.Initiate(ctx, conn, noise.InitiatorConfig{
		Key: f.keys[i], Pins: []wire.Fingerprint{wire.Fingerprint(r.Pin)}, Purpose: noise.PurposeSession,
	})
	if err != nil {
		return err
	}
	peer := wire.NewPeer(secured, wire.PeerConfig{
		Initiator: true, Handler: wire.HandlerFunc(answerPeer), PingEvery: r.Ping,
	})
	f.conns[i], f.peers[i] = secured, peer
	go func() { _ = peer.Run(ctx) }()
	return nil
}

// hello opens the sessions of all agents with the hub and reports once.
func (f *agents) hello(ctx context.Context) error {
	_, err := everywhere(len(f.peers), func(i int) error {
		var welcome wire.Welcome
		hello := wire.Hello{Version: wire.Version, Server: fmt.Sprintf("server-%d", i)}
		if err := f.peers[i].Call(ctx, wire.VerbHello, hello, &welcome); err != nil {
			return err
		}
		return f.peers[i].Call(ctx, wire.VerbReport, report(), nil)
	})
	return err
}

func (f *agents) drop() {
	for _, conn := range f.conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
	f.conns, f.peers = nil, nil
}

func report() wire.Report {
	return wire.Report{Full: true, Agent: fleet.AgentInfo{Version: "1.0.0", Hostname: "host", OS: "linux", Arch: "amd64"}}
}

// answerPeer is what an agent does.
func answerPeer(_ context.Context, verb wire.Verb, body []byte, _ io.Writer) (any, error) {
	if verb == wire.VerbObserve {
		if len(body) == 0 {
			return report(), nil
		}
		return json.RawMessage(body), nil
	}
	if body[0] == opAck {
		return nil, nil
	}
	var req wire.OrderRequest
	if err := wire.Decode(body, &req); err != nil {
		return nil, err
	}
	return wire.Accepted{Outcome: &fleet.Outcome{Order: req.Order.ID, Stack: "web", Status: fleet.OutcomeSucceeded}}, nil
}

// answerTCP is what an agent does on a bare connection.
func answerTCP(conn net.Conn) {
	var buf []byte
	for {
		message, err := readTCP(conn, buf)
		if err != nil {
			return
		}
		buf = message
		if message[frameHead] == opAck {
			message = make([]byte, frameHead)
		}
		if _, err := conn.Write(message); err != nil {
			return
		}
	}
}

// frameHead is the length in front of a message on a bare connection.
const frameHead = 4

// framed is a message as it is written to a bare connection: in one call.
func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...) //nolint:gosec // a few KB
}

// readTCP reads a framed message into buf, or a larger one.
func readTCP(conn net.Conn, buf []byte) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	n := frameHead + int(binary.BigEndian.Uint32(head[:]))
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	copy(buf, head[:])
	if n == frameHead {
		return buf, nil
	}
	_, err := io.ReadFull(conn, buf[frameHead:])
	return buf, err
}
