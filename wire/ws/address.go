package ws

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// Path is where a core waits for agents.
const Path = "/ws/agent"

// URL makes the address of a core's WebSocket out of what a person wrote. http becomes
// ws and https wss; a bare host is taken for a public name, so wss, and a bare IP
// address for a machine nearby, so ws. Whatever path the address has, Path follows it:
// a core may live below a prefix.
//
// It does not matter for secrecy which of the two it is: everything inside is encrypted
// from end to end.
func URL(address string) (string, error) {
	address = strings.TrimSpace(address)
	if !strings.Contains(address, "://") {
		address = bareScheme(address) + "://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		// The parser's error quotes the address, which may hold a password.
		return "", errors.New("core address: not a URL")
	}
	switch u.Scheme {
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	case "ws", "wss":
	default:
		return "", fmt.Errorf("core address: unknown scheme %q: want http, https, ws or wss", u.Scheme)
	}
	switch {
	case u.Hostname() == "":
		return "", errors.New("core address: no host")
	case u.User != nil:
		return "", errors.New("core address: it must not hold credentials")
	case u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("core address: it must not have a query or a fragment")
	}
	u.Path, u.RawPath = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), Path)+Path, ""
	return u.String(), nil
}

// bareScheme is the scheme for an address without one.
func bareScheme(address string) string {
	host, _, _ := strings.Cut(address, "/")
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		return "ws"
	}
	return "wss"
}
