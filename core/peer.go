package core

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/varanhq/varan/internal/network"
)

// realPeer gives requests that a trusted proxy passes on the address of who sent them to it,
// so that limits, allow lists and the history see that one. It is the only code that reads
// X-Forwarded-For.
func realPeer(next http.Handler, trusted func() []Network) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if client, ok := forwarded(r, trusted()); ok {
			r = r.Clone(r.Context())
			r.RemoteAddr = net.JoinHostPort(client.String(), "0")
		}
		next.ServeHTTP(w, r)
	})
}

// forwarded is the first address, from the right, that no trusted proxy has. What stands left
// of it, anybody can have written.
func forwarded(r *http.Request, trusted []Network) (client netip.Addr, ok bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !isTrusted(peer.Addr(), trusted) {
		return netip.Addr{}, false
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		addr, valid := hopAddr(strings.TrimSpace(hop))
		if !valid {
			return client, ok
		}
		client, ok = addr, true
		if !isTrusted(addr, trusted) {
			return client, true
		}
	}
	return client, ok
}

// hopAddr reads an address as proxies write it: plain, with a port, or in brackets.
func hopAddr(text string) (netip.Addr, bool) {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return network.Plain(with.Addr()), true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	return network.Plain(addr), err == nil
}

func isTrusted(addr netip.Addr, trusted []Network) bool {
	addr = network.Plain(addr)
	return slices.ContainsFunc(trusted, func(n Network) bool { return n.Contains(addr) })
}
