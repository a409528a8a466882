package ws

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// Path is where a core waits for agents.
const Path = "/ws/agent"

// AgentPath is where an agent that core dials waits for it, and AgentPort the port that it
// has unless it says otherwise.
const (
	AgentPath = "/ws/core"
	AgentPort = "8120"
)

// URL makes the address of a core's WebSocket out of what a person wrote. http becomes
// ws and https wss; a bare host is taken for a public name, so wss, and a bare IP
// address for a machine nearby, so ws. Whatever path the address has, Path follows it:
// a core may live below a prefix.
//
// It does not matter for secrecy which of the two it is: everything inside is encrypted
// from end to end.
func URL(address string) (string, error) {
	address = bracketed(strings.TrimSpace(address))
	if !strings.Contains(address, "://") {
		address = bareScheme(address) + "://" + address
	}
	u, err := parse("core", address)
	if err != nil {
		return "", err
	}
	u.Path, u.RawPath = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), Path)+Path, ""
	return u.String(), nil
}

// AgentURL is URL for the address of an agent that core dials. A bare address is that of an
// agent as it is by default: with TLS, at its own port.
func AgentURL(address string) (string, error) {
	address = bracketed(strings.TrimSpace(address))
	bare := !strings.Contains(address, "://")
	if bare {
		address = "wss://" + address
	}
	u, err := parse("agent", address)
	if err != nil {
		return "", err
	}
	if bare && u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), AgentPort)
	}
	u.Path, u.RawPath = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), AgentPath)+AgentPath, ""
	return u.String(), nil
}

// bracketed puts an IPv6 address that stands alone in brackets, as URLs have it.
func bracketed(address string) string {
	if ip, err := netip.ParseAddr(strings.Trim(address, "[]")); err == nil && ip.Is6() {
		// In URLs the sign before a zone, as in fe80::1%eth0, is written so.
		return "[" + strings.Replace(ip.String(), "%", "%25", 1) + "]"
	}
	return address
}

// parse reads the URL of a core or an agent, whose is the word for it.
func parse(whose, address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		// The parser's error quotes the address, which may hold a password.
		return nil, fmt.Errorf("%s address: not a URL", whose)
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	case "ws", "wss":
	default:
		return nil, fmt.Errorf("%s address: unknown scheme %q: want http, https, ws or wss", whose, u.Scheme)
	}
	switch {
	case u.Hostname() == "":
		return nil, fmt.Errorf("%s address: no host", whose)
	case u.User != nil:
		return nil, fmt.Errorf("%s address: it must not hold credentials", whose)
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%s address: it must not have a query or a fragment", whose)
	}
	return u, nil
}

// bareScheme is the scheme for an address without one.
func bareScheme(address string) string {
	host, _, _ := strings.Cut(address, "/")
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(strings.Replace(host, "%25", "%", 1), "[]")); err == nil {
		return "ws"
	}
	return "wss"
}
