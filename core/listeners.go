package core

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/varanhq/varan/core/acme"
	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/network"
)

// defaultListen is where a core serves that was told nothing.
const defaultListen = "127.0.0.1:9120"

// The kinds of listeners.
const (
	kindTCP  = "tcp"
	kindTLS  = "tls"
	kindUnix = "unix"
)

// doors are the listeners of a core. They share its handler, limits and shutdown.
type doors struct {
	list []*door
	// limit and exempt say how many connections an address may have, and which have no limit.
	limit  func() int
	exempt func(netip.Addr) bool
	acme   *acme.Storage

	mu   sync.Mutex
	open map[netip.Prefix]int
}

// door is one listener.
type door struct {
	net.Listener

	settings ListenerSettings
	doors    *doors
	cert     *certificate       // of kind tls with files
	acme     *acme.Certificates // of kind tls without
}

// listeners are those of the settings, the one of listen included.
func (s *Settings) listeners() []ListenerSettings {
	if len(s.Listeners) > 0 {
		return s.Listeners
	}
	return []ListenerSettings{{Name: "main", Kind: kindTCP, Address: cmp.Or(s.Listen, defaultListen)}}
}

// openDoors listens everywhere, or nowhere.
func (c *core) openDoors(ctx context.Context) (*doors, error) {
	d := &doors{
		open: map[netip.Prefix]int{}, limit: func() int { return c.settings().Limits.Connections },
		exempt: func(addr netip.Addr) bool { return isTrusted(addr, c.settings().HTTP.TrustedProxies) },
		acme:   acme.NewStorage(dataDir(c.settings().Dir).path("acme")),
	}
	if c.cfg.Listener != nil {
		d.list = []*door{{Listener: c.cfg.Listener, settings: ListenerSettings{Name: "main", Kind: kindTCP}, doors: d}}
		return d, nil
	}
	for i, s := range c.settings().listeners() {
		next, err := c.openDoor(ctx, d, i, s)
		if err != nil {
			d.close()
			return nil, err
		}
		d.list = append(d.list, next)
	}
	return d, nil
}

func (c *core) openDoor(ctx context.Context, all *doors, i int, s ListenerSettings) (*door, error) {
	d := &door{settings: s, doors: all}
	var roots *x509.CertPool
	var err error
	switch {
	case s.ACME.CARoot != "":
		if roots, err = readRoots(s.ACME.CARoot); err != nil {
			return nil, c.atSetting(fmt.Sprintf("listeners[%d].acme.ca_root", i), err)
		}
	case s.CertFile != "":
		if d.cert, err = newCertificate(s.CertFile, s.KeyFile); err != nil {
			return nil, c.atSetting(fmt.Sprintf("listeners[%d].cert_file", i), err)
		}
	}
	if s.Kind == kindUnix {
		if d.Listener, err = listenUnix(ctx, s); err != nil {
			return nil, cannotServe(s.Path, err)
		}
		return d, nil
	}
	var config net.ListenConfig
	if d.Listener, err = config.Listen(ctx, "tcp", s.Address); err != nil {
		return nil, cannotServe(s.Address, err)
	}
	if s.ACME.set() {
		d.acme = c.newACME(ctx, s, all.acme, d.Addr(), roots)
	}
	return d, nil
}

// atSetting is a fault in what a setting names, with the setting's place.
func (c *core) atSetting(key string, err error) error {
	return fleet.Diagnostics{{
		Rule: "invalid-value", Severity: fleet.SeverityError, Position: c.cfg.Origins.Origin(key).Pos, Message: err.Error(),
	}}
}

func cannotServe(where string, err error) error {
	hint := "is another core, or something else, there already? --listen or [[listeners]] choose another address"
	if errors.Is(err, os.ErrPermission) {
		hint = "ports below 1024 and foreign directories need a right: setcap cap_net_bind_service=+ep, or another place"
	}
	return &api.Error{
		Status: http.StatusConflict, Code: api.CodeConflict, Message: fmt.Sprintf("cannot serve on %s: %v", where, err), Hint: hint,
	}
}

// close stops listening everywhere.
func (d *doors) close() {
	for _, door := range d.list {
		_ = door.Close()
	}
}

// addr is the address of the first listener.
func (d *doors) addr() net.Addr { return d.list[0].Addr() }

// serve takes connections until the server is shut down. A listener that fails leaves the
// others alone; it is an error when the last one does. The server itself waits and tries
// again when there are no file descriptors.
func (d *doors) serve(server *http.Server, failed func(name string, err error)) error {
	faults := make([]error, len(d.list))
	var wg sync.WaitGroup
	for i, door := range d.list {
		wg.Go(func() {
			err := server.Serve(door.tls())
			if errors.Is(err, http.ErrServerClosed) {
				return
			}
			faults[i] = fmt.Errorf("serve %s: %w", door.settings.Name, err)
			failed(door.settings.Name, err)
		})
	}
	wg.Wait()
	if slices.Contains(faults, nil) {
		return nil
	}
	return errors.Join(faults...)
}

// Accept implements net.Listener. Connections over the limit of their address are closed.
func (d *door) Accept() (net.Conn, error) {
	for {
		conn, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if d.settings.Kind == kindUnix {
			return &caller{Conn: conn, door: d, leave: func() {}}, nil
		}
		if leave, ok := d.doors.enter(conn); ok {
			return &caller{Conn: conn, door: d, leave: leave}, nil
		}
		_ = conn.Close()
	}
}

// enter counts a connection against the host it comes from.
func (d *doors) enter(conn net.Conn) (leave func(), ok bool) {
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	host := network.Host(peer.Addr())
	if err != nil || d.exempt(peer.Addr()) {
		return func() {}, true
	}
	limit := d.limit()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[host] >= limit {
		return nil, false
	}
	d.open[host]++
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.open[host]--
		if d.open[host] == 0 {
			delete(d.open, host)
		}
	}), true
}

// caller is a connection that knows the listener it came by.
type caller struct {
	net.Conn

	door  *door
	leave func()
}

// Close implements net.Conn.
func (c *caller) Close() error {
	c.leave()
	return c.Conn.Close()
}

// doorKey finds the listener of a request.
type doorKey struct{}

// connContext tells the handlers by which listener a connection came, and who is at the other
// end of a unix socket.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	if wrapped, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = wrapped.NetConn()
	}
	c, ok := conn.(*caller)
	if !ok {
		return ctx
	}
	ctx = auth.WithListener(context.WithValue(ctx, doorKey{}, c.door), c.door.settings.Name)
	if c.door.settings.Kind == kindUnix {
		if uid, known := peerUID(c.Conn); known && (uid == 0 || uid == os.Geteuid()) {
			ctx = auth.WithLocal(ctx, fmt.Sprintf("uid %d", uid))
		}
	}
	return ctx
}

// narrowed answers with a plain 404 what a listener does not serve.
func narrowed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, _ := r.Context().Value(doorKey{}).(*door)
		if d != nil && len(d.settings.Allow) > 0 && !d.allows(r.URL.Path) {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// allows reports whether a listener serves a path. Health checks it always does.
func (d *door) allows(path string) bool {
	what := "api"
	switch {
	case path == "/healthz", path == "/readyz":
		return true
	case strings.HasPrefix(path, "/ws/agent"):
		what = "agents"
	case strings.HasPrefix(path, "/listener/"):
		what = "webhooks"
	}
	return slices.Contains(d.settings.Allow, what)
}

// listenUnix makes a socket that has its mode and group from the moment that it can be found.
// One that a core left behind is replaced, one that answers is not.
func listenUnix(ctx context.Context, s ListenerSettings) (net.Listener, error) {
	var dialer net.Dialer
	if conn, err := dialer.DialContext(ctx, "unix", s.Path); err == nil {
		_ = conn.Close()
		return nil, errors.New("something answers there already")
	}
	if info, err := os.Lstat(s.Path); err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, errors.New("there is a file that is no socket")
	}
	private, err := os.MkdirTemp(filepath.Dir(s.Path), ".varan-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(private) }()
	var config net.ListenConfig
	name := filepath.Join(private, "s")
	listener, err := config.Listen(ctx, "unix", name)
	if err != nil {
		return nil, err
	}
	if err := s.place(name); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &unixListener{Listener: listener, path: s.Path}, nil
}

// place gives a socket its mode and group, and then its name.
func (s *ListenerSettings) place(socket string) error {
	mode, err := s.fileMode()
	if err != nil {
		return err
	}
	if s.Group != "" {
		gid, err := groupID(s.Group)
		if err != nil {
			return err
		}
		if err := os.Chown(socket, -1, gid); err != nil {
			return err
		}
	}
	if err := os.Chmod(socket, mode); err != nil {
		return err
	}
	return os.Rename(socket, s.Path)
}

// unixListener takes its socket away when it closes.
type unixListener struct {
	net.Listener

	path string
}

// Close implements net.Listener.
func (l *unixListener) Close() error {
	err := l.Listener.Close()
	if gone := os.Remove(l.path); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// listenerFailed tells of a listener that takes no more connections.
func (c *core) listenerFailed(ctx context.Context, name string, err error) {
	c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "listener failed", slog.String("listener", name), slog.Any("err", err))
	c.record(context.WithoutCancel(ctx), api.Event{Kind: "core", Listener: name, Text: "listener " + name + " failed: " + err.Error()})
}
