package alert

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/procedure"
)

const (
	// lookEvery is how often the fleet is looked at when the configuration does not say.
	lookEvery = 15 * time.Second
	// maxNews is how many pieces of news wait to be told.
	maxNews = 256
)

// Store keeps what was told.
type Store interface {
	// OpenAlert records a matter, unless one with its key is open; opened says so.
	OpenAlert(ctx context.Context, a Alert) (opened bool, err error)
	// ResolveAlert closes the matter with that key and returns it.
	ResolveAlert(ctx context.Context, key string, at time.Time) (a Alert, found bool, err error)
	// OpenAlerts are the keys of all matters that are not over.
	OpenAlerts(ctx context.Context) ([]string, error)
}

// Config wires a Service.
type Config struct {
	// Store, View and Logger are required.
	Store  Store
	View   func(ctx context.Context) (View, error)
	Logger *slog.Logger
	// Transport is optional, default http.DefaultTransport.
	Transport http.RoundTripper
	// Local is the zone of maintenance windows that name none; optional, default time.Local.
	Local *time.Location
	// Every is how often the fleet is looked at; optional, default 15 s.
	Every time.Duration
}

// Service watches and tells.
type Service struct {
	cfg    Config
	sender *sender
	// news are things to tell that happened, rather than were found by a look.
	news chan news

	mu      sync.Mutex
	dropped int
}

// news is a matter, or that all matters whose keys begin so are over.
type news struct {
	alert Alert
	over  string
}

// New returns a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.View == nil || cfg.Logger == nil {
		return nil, errors.New("alert: Store, View and Logger are required")
	}
	if cfg.Transport == nil {
		cfg.Transport = http.DefaultTransport
	}
	if cfg.Local == nil {
		cfg.Local = time.Local
	}
	return &Service{cfg: cfg, sender: newSender(cfg.Logger, cfg.Transport), news: make(chan news, maxNews)}, nil
}

// Run watches until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { s.sender.run(ctx) })
	open := map[string]bool{}
	keys, err := s.cfg.Store.OpenAlerts(ctx)
	s.failed(ctx, "open alerts not read", err)
	for _, key := range keys {
		open[key] = true
	}
	w := newWatcher()
	ticker := time.NewTicker(cmp.Or(s.cfg.Every, lookEvery))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-s.news:
			s.hear(ctx, n, open)
		case <-ticker.C:
			s.look(ctx, w, open)
		}
	}
}

// look compares what is the matter with what was told.
func (s *Service) look(ctx context.Context, w *watcher, open map[string]bool) {
	view, err := s.cfg.View(ctx)
	if err != nil {
		s.failed(ctx, "nothing to look for alerts at", err)
		return
	}
	matters, kept := w.look(view, time.Now(), s.cfg.Local)
	for _, key := range sorted(matters) {
		if !open[key] {
			s.begin(ctx, matters[key], view, open)
		}
	}
	// After a start nothing is known of stacks until the syncs were read.
	read := !slices.ContainsFunc(view.Syncs, func(s reconciler.SyncStatus) bool { return !s.Planned })
	for _, key := range sorted(open) {
		_, still := matters[key]
		if !still && !kept[key] && !heard(key) && (read || known(key)) {
			s.end(ctx, key, view, open)
		}
	}
}

// heard reports whether the end of a matter is told rather than seen.
func heard(key string) bool {
	return strings.HasPrefix(key, "deploy/") || strings.HasPrefix(key, keyPrefix) || key == backupKey
}

// known reports whether a matter is one that nothing needs to be read for.
func known(key string) bool {
	kind, _, _ := strings.Cut(key, "/")
	return kind == "server" || kind == "server-pending" || kind == "onboarding" || kind == "disk" || kind == "clock"
}

// hear takes one piece of news.
func (s *Service) hear(ctx context.Context, n news, open map[string]bool) {
	view, err := s.cfg.View(ctx)
	if err != nil {
		s.failed(ctx, "alert not told", err)
		return
	}
	if n.over != "" {
		for _, key := range sorted(open) {
			if strings.HasPrefix(key, n.over) {
				s.end(ctx, key, view, open)
			}
		}
		return
	}
	if n.alert.Key == "" || !open[n.alert.Key] && !held(n.alert, view, s.cfg.Local) {
		s.begin(ctx, n.alert, view, open)
	}
}

// held reports whether an alert about a stack is not to be told: the stack says so, or its
// server is in maintenance.
func held(a Alert, v View, local *time.Location) bool {
	if server, ok := serversOf(v)[a.Server]; ok && quietAt(server.Maintenance, a.At, local) {
		return true
	}
	for i := range v.Desired {
		for k := range v.Desired[i].Stacks {
			if st := &v.Desired[i].Stacks[k]; st.Name == a.Target.Name && st.Server == a.Server && st.Quiet {
				return true
			}
		}
	}
	return false
}

// begin records a matter and tells of it.
func (s *Service) begin(ctx context.Context, a Alert, view View, open map[string]bool) {
	if a.At.IsZero() {
		a.At = time.Now()
	}
	if a.Key == "" {
		a.Resolved = a.At
	}
	opened, err := s.cfg.Store.OpenAlert(ctx, a)
	s.failed(ctx, "alert not recorded", err)
	if a.Key != "" {
		if err == nil {
			open[a.Key] = true
		}
		if !opened {
			return // told before, or to be told when it can be recorded
		}
	}
	s.tell(a, view, nil)
}

// end records that a matter is over and tells so.
func (s *Service) end(ctx context.Context, key string, view View, open map[string]bool) {
	a, found, err := s.cfg.Store.ResolveAlert(ctx, key, time.Now())
	if err != nil {
		s.failed(ctx, "end of an alert not recorded", err)
		return
	}
	delete(open, key)
	if found {
		a.Text = "over: " + a.Text
		s.tell(a, view, nil)
	}
}

// tell queues an alert for the alerters that want it, only for those named if any are.
func (s *Service) tell(a Alert, view View, only []string) {
	now := time.Now()
	for _, to := range alertersOf(view) {
		if len(only) > 0 && !slices.Contains(only, to.Name) {
			continue
		}
		if wants(to, a, now, s.cfg.Local) {
			s.sender.enqueue(delivery{to, a})
		}
	}
}

// alertersOf are the declared alerters; of two with one name the first counts.
func alertersOf(v View) (out []fleet.Alerter) {
	taken := map[string]bool{}
	for i := range v.Desired {
		for _, a := range v.Desired[i].Alerters {
			if !taken[a.Name] {
				taken[a.Name] = true
				out = append(out, a)
			}
		}
	}
	return out
}

func (s *Service) failed(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelError, "alerts impaired", slog.String("what", what), slog.Any("err", err))
	}
}

// post hands news to Run and never waits.
func (s *Service) post(n news) {
	select {
	case s.news <- n:
	default:
		s.mu.Lock()
		s.dropped++
		dropped := s.dropped
		s.mu.Unlock()
		s.cfg.Logger.Warn("alert dropped, too many at once", slog.Int("count", dropped))
	}
}

// Tell takes something that happened. It does not block.
func (s *Service) Tell(a Alert) {
	if a.At.IsZero() {
		a.At = time.Now()
	}
	s.post(news{alert: a})
}

// OpEnded takes the end of an op of a run. It does not block.
func (s *Service) OpEnded(e reconciler.Event, commit string) {
	if e.Kind != reconciler.EventOpEnded {
		return
	}
	matter, over := deployed(e, "", commit)
	if matter.Key != "" || over != "" {
		matter.At = e.At
		s.post(news{alert: matter, over: over})
	}
}

// Held tells that a stack is left alone which deploys do not make as it should be. It does
// not block.
func (s *Service) Held(e reconciler.Event) {
	if e.Kind != reconciler.EventHeld {
		return
	}
	s.post(news{alert: Alert{
		Type: fleet.AlertStackDeployFailed, Level: LevelWarning, Server: e.Server, At: e.At,
		Target: fleet.ResourceName{Kind: "stack", Name: e.Stack},
		Text:   fmt.Sprintf("stack %s on %s is left alone: %s", e.Stack, e.Server, e.Text),
		Data:   map[string]any{"id": e.Stack, "name": e.Stack, "server_id": e.Server, "server_name": e.Server, "reason": e.Text},
	}})
}

// ProcedureEnded takes the end of a run of a procedure. It does not block.
func (s *Service) ProcedureEnded(run procedure.Run) {
	if run.Status != procedure.StatusFailed || run.Procedure == "" || run.Parent != "" || !run.FailureAlert {
		return
	}
	s.post(news{alert: Alert{
		Type: fleet.AlertProcedureFailed, Level: LevelWarning, At: run.Ended,
		Target: fleet.ResourceName{Kind: "procedure", Name: run.Procedure},
		Text:   fmt.Sprintf("procedure %s failed: %s", run.Procedure, run.Reason),
		Data:   map[string]any{"id": run.Procedure, "name": run.Procedure, "run": run.ID, "reason": run.Reason},
	}})
}

// keyPrefix begins the keys of matters that end with the next change of keys that succeeds.
const keyPrefix = "key/"

// KeyFailed tells that the key of a server's agent could not be changed.
func (s *Service) KeyFailed(server, reason string) {
	s.post(news{alert: Alert{
		Key: keyPrefix + server + "/", Type: fleet.AlertKeyRotationFailed, Level: LevelWarning, Server: server, At: time.Now(),
		Target: fleet.ResourceName{Kind: "server", Name: server},
		Text:   fmt.Sprintf("the key of server %s was not changed: %s", server, reason),
		Data:   map[string]any{"id": server, "name": server, "reason": reason},
	}})
}

// KeyRotated tells that it was changed now.
func (s *Service) KeyRotated(server string) { s.post(news{over: keyPrefix + server + "/"}) }

// ProcedureScheduled takes a run that a schedule began. It does not block.
func (s *Service) ProcedureScheduled(run procedure.Run) {
	s.post(news{alert: Alert{
		Type: fleet.AlertScheduleRun, Level: LevelOK, At: run.Created,
		Target: fleet.ResourceName{Kind: "procedure", Name: run.Procedure},
		Text:   fmt.Sprintf("procedure %s runs by its schedule", run.Procedure),
		Data:   map[string]any{"resource_type": "Procedure", "id": run.Procedure, "name": run.Procedure, "run": run.ID},
	}})
}

// backupKey is the key of backups that fail; the next one that is made ends that.
const backupKey = "backup/core"

// BackupFailed tells that core could not be backed up.
func (s *Service) BackupFailed(reason string) {
	s.post(news{alert: Alert{
		Key: backupKey, Type: fleet.AlertBackupFailed, Level: LevelCritical, At: time.Now(),
		Target: fleet.ResourceName{Kind: "core", Name: "core"},
		Text:   "core was not backed up: " + reason, Data: map[string]any{"reason": reason},
	}})
}

// BackupMade tells that it was backed up now.
func (s *Service) BackupMade() { s.post(news{over: backupKey}) }

// Alerters are the alerters that are declared.
func (s *Service) Alerters(ctx context.Context) ([]fleet.Alerter, error) {
	view, err := s.cfg.View(ctx)
	if err != nil {
		return nil, err
	}
	return alertersOf(view), nil
}

// ErrUnknown: no alerter of that name is declared.
var ErrUnknown = errors.New("there is no alerter")

// Test implements procedure.Alerts: it sends once, also through an alerter that is not
// enabled, and returns what became of it.
func (s *Service) Test(ctx context.Context, name string) error {
	alerters, err := s.Alerters(ctx)
	if err != nil {
		return err
	}
	for _, to := range alerters {
		if to.Name != name {
			continue
		}
		now := time.Now()
		a := Alert{
			Type: fleet.AlertTest, Level: LevelOK, At: now, Resolved: now, Target: fleet.ResourceName{Kind: "alerter", Name: name},
			Text: fmt.Sprintf("a test of the alerter %s", name), Data: map[string]any{"id": name, "name": name},
		}
		if _, err := s.sender.post(ctx, delivery{to, a}); err != nil {
			return fmt.Errorf("alerter %s: %w", name, err)
		}
		return nil
	}
	return fmt.Errorf("%w %q", ErrUnknown, name)
}

// Send implements procedure.Alerts.
func (s *Service) Send(ctx context.Context, level, message, details string, names []string) error {
	view, err := s.cfg.View(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, to := range alertersOf(view) {
		known[to.Name] = true
	}
	for _, name := range names {
		if !known[name] {
			return fmt.Errorf("%w %q", ErrUnknown, name)
		}
	}
	now := time.Now()
	a := Alert{
		Type: fleet.AlertCustom, Level: Level(strings.ToUpper(level)), At: now, Resolved: now,
		Text: strings.TrimSpace(message + "\n" + details), Data: map[string]any{"message": message, "details": details},
	}
	switch a.Level {
	case LevelOK, LevelWarning, LevelCritical:
	case "":
		a.Level = LevelOK
	default:
		return fmt.Errorf("there is no alert level %q; write OK, WARNING or CRITICAL", level)
	}
	if _, err := s.cfg.Store.OpenAlert(ctx, a); err != nil {
		return err
	}
	s.tell(a, view, names)
	return nil
}
