package git

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	dialTimeout = 15 * time.Second
	// answerTimeout bounds the wait for the first byte of an answer. A server may
	// compress for a long time before it sends one.
	answerTimeout = 60 * time.Second
	maxRedirects  = 5
	// defaultTokenUser goes with a token when no user name is given. Git hosts take a
	// token as password and ignore the name.
	defaultTokenUser = "x-access-token"
)

// httpRemote is a repository behind smart HTTP. It holds the source's own transport:
// nothing of it is shared with the process.
type httpRemote struct {
	source *Source
	base   *url.URL
	client *http.Client
}

func newHTTPRemote(source *Source, loc Location) (*httpRemote, error) {
	base, err := url.Parse(loc.URL())
	if err != nil {
		return nil, &URLError{Rule: "url-syntax", Reason: "it cannot be parsed"}
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: answerTimeout,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConns:          1,
		DisableCompression:    true,
		ForceAttemptHTTP2:     true,
	}
	if len(source.CA) > 0 {
		pool, poolErr := x509.SystemCertPool()
		if poolErr != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(source.CA) {
			return nil, fmt.Errorf("%w: the source's CA holds no PEM certificate", ErrTLS)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	if source.Proxy != "" {
		proxy, proxyErr := url.Parse(source.Proxy)
		if proxyErr != nil || proxy.Host == "" {
			return nil, &URLError{Rule: "proxy-url", Reason: "the proxy's URL cannot be parsed"}
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	return &httpRemote{
		source: source,
		base:   base,
		client: &http.Client{Transport: transport, CheckRedirect: checkRedirect},
	}, nil
}

func (r *httpRemote) close() { r.client.CloseIdleConnections() }

func (r *httpRemote) open(context.Context) (session, error) {
	return &httpSession{remote: r, base: r.base}, nil
}

// checkRedirect follows a redirect of the first request within the same host, so that a
// renamed repository is found. Credentials never travel to another host, nor from
// https to http.
func checkRedirect(next *http.Request, via []*http.Request) error {
	from := via[len(via)-1].URL
	switch {
	case next.Method != http.MethodGet || via[0].Method != http.MethodGet:
		return fmt.Errorf("%w: only the first request may be redirected", ErrRedirect)
	case len(via) > maxRedirects:
		return fmt.Errorf("%w: more than %d in a row", ErrRedirect, maxRedirects)
	case !strings.HasSuffix(next.URL.Path, "/info/refs"), next.URL.User != nil:
		return fmt.Errorf("%w: not to a repository; is the URL right?", ErrRedirect)
	case from.Scheme == next.URL.Scheme && strings.EqualFold(from.Host, next.URL.Host):
		return nil
	case from.Scheme == schemeHTTP && next.URL.Scheme == schemeHTTPS &&
		strings.EqualFold(from.Hostname(), next.URL.Hostname()):
		return nil
	}
	return fmt.Errorf("%w: to %s://%s; if that is right, use it as the URL",
		ErrRedirect, clip(next.URL.Scheme, 10), clip(printable(next.URL.Host), 100))
}

// httpSession is one poll or fetch.
type httpSession struct {
	remote *httpRemote
	// base moves when the first request is redirected.
	base *url.URL
	body io.ReadCloser
}

func (s *httpSession) advertise(ctx context.Context) (io.Reader, error) {
	target := s.base.JoinPath("info/refs")
	target.RawQuery = "service=git-upload-pack"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("prepare request: %w", err)
	}
	answer, err := s.do(req)
	if err != nil {
		return nil, err
	}
	if answer.contentType != "application/x-git-upload-pack-advertisement" {
		return nil, fmt.Errorf("%w: the server answers, but not as a Git server does", ErrNotFound)
	}
	if answer.url.String() != target.String() {
		moved := *answer.url
		moved.Path, moved.RawPath, moved.RawQuery = strings.TrimSuffix(moved.Path, "/info/refs"), "", ""
		s.base = &moved
	}
	return answer.body, nil
}

func (s *httpSession) request(ctx context.Context, body []byte) (io.Reader, error) {
	target := s.base.JoinPath("git-upload-pack").String()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("prepare request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	req.Header.Set("Accept", "application/x-git-upload-pack-result")
	answer, err := s.do(req)
	if err != nil {
		return nil, err
	}
	return answer.body, nil
}

// httpAnswer is a successful answer. Its body is closed with the session.
type httpAnswer struct {
	url         *url.URL
	contentType string
	body        io.Reader
}

// do sends a request and turns everything but success into an error.
func (s *httpSession) do(req *http.Request) (*httpAnswer, error) {
	if err := s.close(); err != nil {
		return nil, err
	}
	s.remote.source.authorize(req)
	req.Header.Set("User-Agent", "git/varan")
	resp, err := s.remote.client.Do(req) //nolint:bodyclose // closed with the session
	if err != nil {
		return nil, explainHTTP(err)
	}
	s.body = resp.Body
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp)
	}
	return &httpAnswer{url: resp.Request.URL, contentType: resp.Header.Get("Content-Type"), body: resp.Body}, nil
}

// close ends the current answer. A short rest is read, so that the connection is kept.
func (s *httpSession) close() error {
	if s.body == nil {
		return nil
	}
	_, _ = io.CopyN(io.Discard, s.body, 4<<10)
	err := s.body.Close()
	s.body = nil
	return err
}

func (s *Source) authorize(req *http.Request) {
	switch {
	case s.Password.IsEmpty() && s.Username == "":
	case s.Bearer:
		req.Header.Set("Authorization", "Bearer "+s.Password.Reveal())
	default:
		user := s.Username
		if user == "" {
			user = defaultTokenUser
		}
		pair := base64.StdEncoding.EncodeToString([]byte(user + ":" + s.Password.Reveal()))
		req.Header.Set("Authorization", "Basic "+pair)
	}
}

// explainHTTP classifies what the transport says.
func explainHTTP(err error) error {
	var (
		unknown *tls.CertificateVerificationError
		header  tls.RecordHeaderError
	)
	if errors.As(err, &unknown) || errors.As(err, &header) {
		return fmt.Errorf("%w: %w", ErrTLS, err)
	}
	return err
}

func statusError(resp *http.Response) error {
	status := strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return fmt.Errorf("%w: server answered %s", ErrAuth, status)
	case http.StatusNotFound, http.StatusGone:
		return fmt.Errorf("%w: server answered %s", ErrNotFound, status)
	}
	busy := &busyError{status: status}
	if after := resp.Header.Get("Retry-After"); after != "" {
		if seconds, err := strconv.ParseUint(after, 10, 31); err == nil {
			busy.after = time.Duration(seconds) * time.Second
		} else if at, timeErr := http.ParseTime(after); timeErr == nil {
			busy.after = max(0, time.Until(at))
		}
	}
	return busy
}
