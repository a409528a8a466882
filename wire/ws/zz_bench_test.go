package ws_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/varanhq/varan/wire"
	"github.com/varanhq/varan/wire/noise"
	"github.com/varanhq/varan/wire/ws"
)

func BenchmarkZTCP(b *testing.B) {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	go func() {
		c, _ := l.Accept()
		buf := make([]byte, 1028)
		for {
			if _, err := io.ReadFull(c, buf[:4]); err != nil {
				return
			}
			io.ReadFull(c, buf[4:])
			c.Write(buf)
		}
	}()
	c, _ := net.Dial("tcp", l.Addr().String())
	ch := make(chan int, 1)
	go func() {
		buf := make([]byte, 1028)
		for {
			if _, err := io.ReadFull(c, buf[:4]); err != nil {
				return
			}
			io.ReadFull(c, buf[4:])
			ch <- 1
		}
	}()
	msg := make([]byte, 1028)
	for b.Loop() {
		c.Write(msg)
		<-ch
	}
}

func BenchmarkZPeer(b *testing.B) {
	key, _ := noise.GenerateKey()
	akey, _ := noise.GenerateKey()
	got := make(chan *wire.Peer, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := ws.Upgrade(w, r)
		if err != nil {
			return
		}
		go func() {
			s, _, err := noise.Respond(b.Context(), conn, noise.ResponderConfig{Key: key, CoreID: "x", Authenticate: func(context.Context, noise.PeerInfo) error { return nil }})
			if err != nil {
				panic(err)
			}
			p := wire.NewPeer(s, wire.PeerConfig{})
			go p.Run(b.Context())
			got <- p
		}()
	}))
	conn, err := ws.Dial(b.Context(), server.URL, ws.DialConfig{})
	if err != nil {
		b.Fatal(err)
	}
	s, err := noise.Initiate(b.Context(), conn, noise.InitiatorConfig{Key: akey, Pins: []wire.Fingerprint{key.Public().Fingerprint()}, Purpose: noise.PurposeSession})
	if err != nil {
		b.Fatal(err)
	}
	a := wire.NewPeer(s, wire.PeerConfig{Initiator: true, Handler: wire.HandlerFunc(func(_ context.Context, _ wire.Verb, body []byte, _ io.Writer) (any, error) {
		return json.RawMessage(body), nil
	})})
	go a.Run(b.Context())
	p := <-got
	msg := json.RawMessage(make([]byte, 1024))
	b.ReportAllocs()
	for b.Loop() {
		var echo json.RawMessage
		if err := p.Call(b.Context(), wire.VerbObserve, msg, &echo); err != nil {
			b.Fatal(err)
		}
	}
}
