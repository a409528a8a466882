package web_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// pipes is a network without sockets, so that time in it can be that of a bubble.
type pipes struct{ conns chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	conn, ok := <-p.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (p *pipes) Close() error { close(p.conns); return nil }

func (*pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.conns <- server
	return client, nil
}

func TestARunMayLastLongerThanABodyMayTakeToArrive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.addSync(t, false)
		f.server.Close() // only its handler is used: its sockets do not belong in here
		f.loop.apply = func(ctx context.Context, req reconciler.ApplyRequest) (reconciler.Run, reconciler.RunResult, error) {
			req.Watch(reconciler.Event{Kind: reconciler.EventRunStarted, Run: "r1", Plan: &plan.Plan{}})
			timer := time.NewTimer(time.Hour)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return reconciler.Run{}, reconciler.RunResult{}, ctx.Err()
			}
			return reconciler.Run{ID: "r1"}, reconciler.RunResult{Status: reconciler.OpSucceeded}, nil
		}
		network := &pipes{conns: make(chan net.Conn)}
		server := &http.Server{Handler: f.server.Config.Handler}
		go func() { _ = server.Serve(network) }()
		transport := &http.Transport{DialContext: network.dial, DisableKeepAlives: true}
		client := &api.Client{BaseURL: "http://core", Key: f.Key, HTTP: &http.Client{Transport: transport}}
		result, err := client.Apply(t.Context(), "main", api.ApplyRequest{}, nil)
		if err != nil || result.Status != api.OpSucceeded {
			t.Errorf("after an hour: %+v, %v", result, err)
		}
		must(t, server.Close())
		must(t, f.store.Close())
	})
}

func TestW05ABodyThatComesTooSlowlyIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := &pipes{conns: make(chan net.Conn)}
		handler := web.BoundBodies(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			start := time.Now()
			_, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v", time.Since(start), err)
		}))
		server := &http.Server{Handler: handler}
		go func() { _ = server.Serve(network) }()
		conn, err := network.dial(t.Context(), "", "")
		must(t, err)
		_, err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nslow")
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		defer func() { _ = resp.Body.Close() }()
		answer, err := io.ReadAll(resp.Body)
		must(t, err)
		if !strings.HasPrefix(string(answer), "15s ") || !strings.Contains(string(answer), "timeout") {
			t.Errorf("given up after %s", answer)
		}
		must(t, conn.Close())
		must(t, server.Close())
	})
}
