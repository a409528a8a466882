package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/net/proxy"
)

// sshRemote is a repository behind SSH. Neither the process's SSH configuration nor its
// agent, keys or known hosts are looked at: all comes from the source.
type sshRemote struct {
	source *Source
	loc    Location
	config ssh.ClientConfig
	dialer proxy.ContextDialer
}

func newSSHRemote(source *Source, loc Location) (*sshRemote, error) {
	r := &sshRemote{source: source, loc: loc, dialer: &net.Dialer{Timeout: dialTimeout}}
	if loc.port == 0 {
		r.loc.port = 22
	}
	r.config.User = firstOf(loc.user, source.Username, "git")
	auth, err := sshAuth(source)
	if err != nil {
		return nil, err
	}
	r.config.Auth = []ssh.AuthMethod{auth}
	if err := r.pinHostKeys(source.KnownHosts); err != nil {
		return nil, err
	}
	if source.Proxy == "" {
		return r, nil
	}
	address, err := url.Parse(source.Proxy)
	if err != nil || (address.Scheme != "socks5" && address.Scheme != "socks5h") {
		return nil, &URLError{Rule: "proxy-url", Reason: "ssh goes through socks5:// proxies only"}
	}
	dialer, err := proxy.FromURL(address, &net.Dialer{Timeout: dialTimeout})
	if err != nil {
		return nil, &URLError{Rule: "proxy-url", Reason: "the proxy's URL is not accepted"}
	}
	r.dialer, _ = dialer.(proxy.ContextDialer)
	return r, nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func sshAuth(source *Source) (ssh.AuthMethod, error) {
	if source.SSHKey.IsEmpty() {
		if source.Password.IsEmpty() {
			return nil, fmt.Errorf("%w: ssh needs a private key", ErrAuth)
		}
		return ssh.Password(source.Password.Reveal()), nil
	}
	signer, err := ssh.ParsePrivateKey([]byte(source.SSHKey.Reveal()))
	if _, locked := errors.AsType[*ssh.PassphraseMissingError](err); locked {
		signer, err = ssh.ParsePrivateKeyWithPassphrase(
			[]byte(source.SSHKey.Reveal()), []byte(source.SSHPassphrase.Reveal()))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: read the ssh private key: %w", ErrAuth, err)
	}
	return ssh.PublicKeys(signer), nil
}

// pinHostKeys accepts the listed keys only, and negotiates only their types: otherwise a
// server with several keys could answer with one that is not listed.
func (r *sshRemote) pinHostKeys(lines []byte) error {
	if len(bytes.TrimSpace(lines)) == 0 {
		return fmt.Errorf("%w: no known hosts are given; add the host's line of `ssh-keyscan`, after checking it", ErrHostKey)
	}
	// The parser reads files only.
	f, err := os.CreateTemp("", "varan-known-hosts-*")
	if err != nil {
		return fmt.Errorf("write known hosts: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(lines)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write known hosts: %w", err)
	}
	db, err := knownhosts.NewDB(f.Name())
	if err != nil {
		return fmt.Errorf("%w: the known hosts cannot be parsed", ErrHostKey)
	}
	verify := db.HostKeyCallback()
	r.config.HostKeyAlgorithms = db.HostKeyAlgorithms(r.address())
	r.config.HostKeyCallback = func(host string, addr net.Addr, key ssh.PublicKey) error {
		err := verify(host, addr, key)
		fingerprint := ssh.FingerprintSHA256(key)
		switch {
		case err == nil:
			return nil
		case knownhosts.IsHostKeyChanged(err):
			return fmt.Errorf("%w: the host key of %s changed to %s", ErrHostKey, host, fingerprint)
		case knownhosts.IsHostUnknown(err):
			return fmt.Errorf("%w: %s is not among the known hosts; its key is %s", ErrHostKey, host, fingerprint)
		}
		return fmt.Errorf("%w: host key %s of %s is refused", ErrHostKey, fingerprint, host)
	}
	return nil
}

func (r *sshRemote) address() string { return net.JoinHostPort(r.loc.host, strconv.Itoa(r.loc.port)) }

func (*sshRemote) close() {}

// open connects and starts git-upload-pack. ctx bounds the whole session.
func (r *sshRemote) open(ctx context.Context) (_ session, err error) {
	conn, err := r.dialer.DialContext(ctx, "tcp", r.address())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	// Closing the socket is what ends a handshake or a read that hangs.
	release := context.AfterFunc(ctx, func() { _ = conn.Close() })
	s := &sshSession{source: r.source, release: release, conn: conn}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	client, channels, requests, err := ssh.NewClientConn(conn, r.address(), &r.config)
	if err != nil {
		return nil, explainSSH(ctx, err)
	}
	s.client = ssh.NewClient(client, channels, requests)
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if err := s.start(r.loc.path); err != nil {
		return nil, err
	}
	return s, nil
}

// explainSSH classifies a failed handshake.
func explainSSH(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("ssh handshake: %w", context.Cause(ctx))
	case errors.Is(err, ErrHostKey):
		return fmt.Errorf("ssh handshake: %w", err)
	case strings.Contains(err.Error(), "no common algorithm for host key"):
		return fmt.Errorf("%w: the server has no host key of a type among the known hosts", ErrHostKey)
	case strings.Contains(err.Error(), "unable to authenticate"):
		return fmt.Errorf("%w: the server does not accept the ssh key", ErrAuth)
	}
	return fmt.Errorf("ssh handshake: %w", err)
}

// sshSession is one git-upload-pack on a server.
type sshSession struct {
	source  *Source
	release func() bool
	conn    net.Conn
	client  *ssh.Client
	run     *ssh.Session
	in      io.WriteCloser
	out     io.Reader
	said    firstBytes
	// asked is set once a request is sent; without one the server waits for a goodbye.
	asked bool
}

func (s *sshSession) start(path string) (err error) {
	if s.run, err = s.client.NewSession(); err != nil {
		return fmt.Errorf("open ssh session: %w", err)
	}
	s.run.Stderr = &s.said
	if s.in, err = s.run.StdinPipe(); err != nil {
		return fmt.Errorf("open ssh session: %w", err)
	}
	if s.out, err = s.run.StdoutPipe(); err != nil {
		return fmt.Errorf("open ssh session: %w", err)
	}
	if strings.HasPrefix(path, "/~") {
		path = path[1:]
	}
	if err := s.run.Start("git-upload-pack " + quoteShell(path)); err != nil {
		return fmt.Errorf("start git-upload-pack: %w", err)
	}
	return nil
}

func quoteShell(s string) string {
	s = strings.ReplaceAll(s, `'`, `'\''`)
	return `'` + strings.ReplaceAll(s, `!`, `'\!'`) + `'`
}

func (s *sshSession) advertise(context.Context) (io.Reader, error) {
	return &explained{session: s}, nil
}

func (s *sshSession) request(_ context.Context, body []byte) (io.Reader, error) {
	s.asked = true
	if _, err := s.in.Write(body); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	return s.out, nil
}

func (s *sshSession) close() error {
	s.release()
	if s.in != nil && !s.asked {
		_, _ = io.WriteString(s.in, "0000")
	}
	var err error
	if s.client != nil {
		err = s.client.Close()
	} else {
		err = s.conn.Close()
	}
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// explained is the server's output. When it ends before it began, what the server wrote
// to its error output says why.
type explained struct {
	session *sshSession
	begun   bool
}

// Read reads the output.
func (e *explained) Read(p []byte) (int, error) {
	n, err := e.session.out.Read(p)
	if n > 0 || err == nil || e.begun {
		e.begun = true
		return n, err
	}
	// The error output is complete only when the command has ended.
	_ = e.session.run.Wait()
	said := e.session.said.String()
	if looksMissing(said) {
		return 0, fmt.Errorf("%w: server says %s", ErrNotFound, e.session.source.remoteText(said))
	}
	return 0, fmt.Errorf("git-upload-pack ended at once: server says %s", e.session.source.remoteText(said))
}

// firstBytes keeps the first bytes written to it.
type firstBytes struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write keeps what still fits.
func (t *firstBytes) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf.Write(p[:min(len(p), max(0, 1024-t.buf.Len()))])
	return len(p), nil
}

// String is what was kept.
func (t *firstBytes) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf.String()
}
