package core

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// faulty is a listener whose first calls fail.
type faulty struct {
	net.Listener

	faults []error
}

func (f *faulty) Accept() (net.Conn, error) {
	if len(f.faults) == 0 {
		return f.Listener.Accept()
	}
	err := f.faults[0]
	f.faults = f.faults[1:]
	return nil, err
}

func TestA056AFailingListenerLeavesTheOthers(t *testing.T) {
	t.Parallel()
	d := &doors{open: map[netip.Prefix]int{}, limit: func() int { return 9 }, exempt: func(netip.Addr) bool { return false }}
	full := &net.OpError{Op: "accept", Err: syscall.EMFILE}
	for name, faults := range map[string][]error{"dead": {errors.New("gone for good")}, "full": {full, full, full}, "good": nil} {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		d.list = append(d.list, &door{Listener: &faulty{l, faults}, settings: ListenerSettings{Name: name, Kind: kindTCP}, doors: d})
	}
	server := &http.Server{
		ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }),
	}
	failed, done := make(chan string, 3), make(chan error, 1)
	go func() { done <- d.serve(server, func(name string, _ error) { failed <- name }) }()
	if name := <-failed; name != "dead" {
		t.Errorf("%s failed", name)
	}
	for _, door := range d.list {
		if door.settings.Name == "dead" {
			continue
		}
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+door.Addr().String(), http.NoBody)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatalf("%s: %v", door.settings.Name, err)
		}
		_ = answer.Body.Close()
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Errorf("two of three served to the end, and yet %v", err)
	}
}

// from is a connection of somebody.
type from struct {
	net.Conn

	addr string
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(f.addr)) }

func TestConnectionsOfOneNetworkOfIPv6CountAsOfOneHost(t *testing.T) {
	t.Parallel()
	d := &doors{open: map[netip.Prefix]int{}, limit: func() int { return 2 }, exempt: func(netip.Addr) bool { return false }}
	enter := func(addr string) bool {
		_, ok := d.enter(from{addr: addr})
		return ok
	}
	first, _ := d.enter(from{addr: "[2001:db8::1]:1"})
	if !enter("[2001:db8::2]:1") || enter("[2001:db8::3]:1") {
		t.Error("a third address of one /64 got past a limit of two")
	}
	if !enter("[2001:db8:0:1::1]:1") || !enter("10.0.0.1:1") || !enter("10.0.0.2:1") || !enter("[::ffff:10.0.0.1]:1") || enter("10.0.0.1:2") {
		t.Error("the limit is not one of each host")
	}
	first()
	if !enter("[2001:db8::3]:1") {
		t.Error("the place of a connection that ended is not free")
	}
}
