package git_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/testutil/gitserver"
	"github.com/varanhq/varan/sync/git"
)

// sshServer runs git-upload-pack for whoever has the client key.
type sshServer struct {
	address string
	host    ssh.Signer
	client  ed25519.PrivateKey
}

func newSigner(tb testing.TB) (ssh.Signer, ed25519.PrivateKey) {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return signer, key
}

// keyText is a private key as it is kept in files.
func keyText(tb testing.TB, key ed25519.PrivateKey) fleet.Secret {
	tb.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		tb.Fatal(err)
	}
	return fleet.NewSecret(string(pem.EncodeToMemory(block)))
}

func newSSHServer(tb testing.TB) *sshServer {
	tb.Helper()
	host, _ := newSigner(tb)
	client, clientKey := newSigner(tb)
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if string(key.Marshal()) != string(client.PublicKey().Marshal()) {
				return nil, errors.New("unknown key")
			}
			return &ssh.Permissions{}, nil
		},
	}
	config.AddHostKey(host)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var all sync.WaitGroup
	tb.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { serveSSH(conn, config) })
		}
	})
	return &sshServer{address: listener.Addr().String(), host: host, client: clientKey}
}

func serveSSH(conn net.Conn, config *ssh.ServerConfig) {
	defer func() { _ = conn.Close() }()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for offer := range channels {
		channel, requests, err := offer.Accept()
		if err != nil {
			return
		}
		for req := range requests {
			if req.Type != "exec" {
				continue
			}
			var run struct{ Command string }
			_ = ssh.Unmarshal(req.Payload, &run)
			_ = req.Reply(true, nil)
			cmd := exec.Command("sh", "-c", run.Command)
			cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
			in, _ := cmd.StdinPipe()
			go func() {
				_, _ = io.Copy(in, channel)
				_ = in.Close()
			}()
			code := byte(0)
			if cmd.Run() != nil {
				code = 128
			}
			_, _ = channel.SendRequest("exit-status", false, []byte{0, 0, 0, code})
			_ = channel.Close()
		}
	}
}

func (s *sshServer) source(tb testing.TB, path string) git.Source {
	tb.Helper()
	return git.Source{
		URL:        "ssh://git@" + s.address + path,
		SSHKey:     keyText(tb, s.client),
		KnownHosts: []byte(knownhosts.Line([]string{knownhosts.Normalize(s.address)}, s.host.PublicKey())),
	}
}

func TestSSHWithAPinnedHostKey(t *testing.T) {
	srv, remote := gitserver.New(t), newSSHServer(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	m := openWith(t, git.Config{Dir: t.TempDir()}, remote.source(t, srv.Dir()))
	fetch(t, m)
	if _, changed, err := m.Fetch(t.Context()); err != nil || changed {
		t.Errorf("unchanged: %t, %v", changed, err)
	}
	id := srv.Commit(map[string]string{"a": "2"}, "two")
	if head, err := m.Head(t.Context()); err != nil || head != id {
		t.Errorf("head is %s, %v", head, err)
	}
	if got := read(t, fetch(t, m), "a"); got != "2" {
		t.Errorf("a is %q", got)
	}
}

func TestSSHHostKeysAreNeverAcceptedOnTrust(t *testing.T) {
	srv, remote := gitserver.New(t), newSSHServer(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	other, _ := newSigner(t)
	name := knownhosts.Normalize(remote.address)
	for _, tc := range []struct{ name, lines string }{
		{"none", ""},
		{"another host's", knownhosts.Line([]string{"git.example.org"}, remote.host.PublicKey())},
		{"changed", knownhosts.Line([]string{name}, other.PublicKey())},
		{"revoked", "@revoked " + knownhosts.Line([]string{name}, remote.host.PublicKey())},
		{"nonsense", "nonsense"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := remote.source(t, srv.Dir())
			src.KnownHosts = []byte(tc.lines)
			m, err := git.Open(git.Config{Dir: t.TempDir()}, src)
			if err == nil {
				_, _, err = m.Fetch(t.Context())
				_ = m.Close()
			}
			if !errors.Is(err, git.ErrHostKey) || !git.Permanent(err) {
				t.Errorf("fetch: %v", err)
			}
		})
	}
}

func TestSSHHashedHostNamesAreKnown(t *testing.T) {
	srv, remote := gitserver.New(t), newSSHServer(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	src := remote.source(t, srv.Dir())
	src.KnownHosts = []byte(knownhosts.Line(
		[]string{knownhosts.HashHostname(knownhosts.Normalize(remote.address))}, remote.host.PublicKey()))
	fetch(t, openWith(t, git.Config{Dir: t.TempDir()}, src))
}

func TestSSHFaultsAreClassified(t *testing.T) {
	srv, remote := gitserver.New(t), newSSHServer(t)
	srv.Commit(map[string]string{"a": "1"}, "one")
	_, stranger := newSigner(t)
	block, err := ssh.MarshalPrivateKeyWithPassphrase(remote.client, "", []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	locked := fleet.NewSecret(string(pem.EncodeToMemory(block)))
	for _, tc := range []struct {
		name   string
		change func(*git.Source)
		want   error
	}{
		{"unknown key", func(s *git.Source) { s.SSHKey = keyText(t, stranger) }, git.ErrAuth},
		{"locked key", func(s *git.Source) { s.SSHKey = locked }, git.ErrAuth},
		{"no PEM", func(s *git.Source) { s.SSHKey = fleet.NewSecret("nonsense") }, git.ErrAuth},
		{"no key", func(s *git.Source) { s.SSHKey = fleet.Secret{} }, git.ErrAuth},
		{"no repository", func(s *git.Source) { s.URL = "ssh://git@" + remote.address + "/no/such'repo" }, git.ErrNotFound},
		{"unlocked key, no branch", func(s *git.Source) {
			s.SSHKey, s.SSHPassphrase, s.Branch = locked, fleet.NewSecret("open sesame"), "nope"
		}, git.ErrRef},
		{"no branch", func(s *git.Source) { s.Branch = "nope" }, git.ErrRef},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := remote.source(t, srv.Dir())
			tc.change(&src)
			m, err := git.Open(git.Config{Dir: t.TempDir()}, src)
			if err == nil {
				_, _, err = m.Fetch(t.Context())
				_ = m.Close()
			}
			if !errors.Is(err, tc.want) || !git.Permanent(err) {
				t.Errorf("fetch: %v, want %v", err, tc.want)
			}
		})
	}
}

func TestSSHServerThatSaysNothingIsGivenUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	remote := newSSHServer(t)
	src := remote.source(t, "/repo.git")
	src.URL = strings.Replace(src.URL, remote.address, listener.Addr().String(), 1)
	m := openWith(t, git.Config{Dir: t.TempDir(), Limits: git.Limits{Timeout: 200 * time.Millisecond}}, src)
	if _, _, err := m.Fetch(t.Context()); err == nil || git.Permanent(err) {
		t.Errorf("fetch: %v", err)
	}
}
