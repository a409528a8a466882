package ws

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxProxyAnswer bounds what a proxy says before it is a tunnel.
const maxProxyAnswer = 16 << 10

// ErrProxyLogin says that a proxy wants another login, or any: somebody has to give it.
var ErrProxyLogin = errors.New("the proxy wants a login")

type netDial = func(ctx context.Context, network, addr string) (net.Conn, error)

// ParseProxy reads the address of a proxy. It may hold a login, so the error does not quote it.
func ParseProxy(text string) (*url.URL, error) {
	proxy, err := url.Parse(text)
	switch {
	case err != nil || proxy.Hostname() == "":
		return nil, errors.New("the proxy's address is not a URL")
	case proxy.Scheme != "http" && proxy.Scheme != "https" && proxy.Scheme != "socks5" && proxy.Scheme != "socks5h":
		return nil, errors.New("the proxy's address begins with none of http://, https:// and socks5://")
	}
	return proxy, nil
}

// proxyOf is the proxy on the way to a WebSocket address, or nil.
func proxyOf(choose func(*http.Request) (*url.URL, error), target *url.URL) (*url.URL, error) {
	asked := *target
	asked.Scheme = "http"
	if target.Scheme == "wss" {
		asked.Scheme = "https"
	}
	proxy, err := choose(&http.Request{Method: http.MethodGet, URL: &asked, Host: asked.Host, Header: http.Header{}})
	if err != nil { // it may quote the login
		return nil, errors.New("HTTPS_PROXY or HTTP_PROXY does not hold the address of a proxy like http://proxy.example.com:3128")
	}
	return proxy, nil
}

// through dials by an HTTP proxy, which is asked to connect to the address. What is trusted in
// TLS with core does not matter to a proxy that gets a login: its certificate is checked.
func through(proxy *url.URL, trust *tls.Config, dial netDial) netDial {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, hostPort(proxy))
		if err != nil {
			return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		tunnel, err := connectBy(ctx, conn, proxy, trust, addr)
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("proxy %s: %w", proxy.Host, err)
		}
		return tunnel, nil
	}
}

// hostPort is where a proxy listens.
func hostPort(proxy *url.URL) string {
	port := proxy.Port()
	if port == "" {
		port = "80"
		if proxy.Scheme == "https" {
			port = "443"
		}
	}
	return net.JoinHostPort(proxy.Hostname(), port)
}

// connectBy makes a tunnel of a connection with a proxy.
func connectBy(ctx context.Context, conn net.Conn, proxy *url.URL, trust *tls.Config, addr string) (net.Conn, error) {
	if proxy.Scheme == "https" {
		config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: proxy.Hostname()}
		if trust != nil {
			config.RootCAs = trust.RootCAs
		}
		secured := tls.Client(conn, config)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secured
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{"User-Agent": {"varan"}}}
	if login := proxy.User; login != nil {
		password, _ := login.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(login.Username()+":"+password)))
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	answers := bufio.NewReader(io.LimitReader(conn, maxProxyAnswer))
	resp, err := http.ReadResponse(answers, req)
	if err != nil {
		return nil, fmt.Errorf("its answer is none: %w", err)
	}
	_ = resp.Body.Close()
	switch status := resp.StatusCode; {
	case status == http.StatusProxyAuthRequired && proxy.User == nil:
		return nil, fmt.Errorf("%w: its address has none", ErrProxyLogin)
	case status == http.StatusProxyAuthRequired:
		return nil, fmt.Errorf("%w: that of its address is wrong", ErrProxyLogin)
	case status/100 != 2:
		return nil, fmt.Errorf("it does not connect to %s: %d %s", addr, status, http.StatusText(status))
	case answers.Buffered() > 0: // core says nothing before it is spoken to
		return nil, errors.New("it says more than it was asked")
	}
	return conn, nil
}
