package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/reconciler"
	"github.com/varanhq/varan/reconciler/plan"
)

// Shared is what other syncs, and core itself, see of a recorded resource. One of the
// pointers is set, by the resource's kind.
type Shared struct {
	// Sync declares the resource.
	Sync       string            `json:"-"`
	Server     *fleet.Server     `json:"server,omitempty"`
	Variable   *fleet.Variable   `json:"variable,omitempty"`
	Repository *fleet.Repository `json:"repository,omitempty"`
	Hook       *fleet.Hook       `json:"hook,omitempty"`
	Spec       *fleet.SyncSpec   `json:"sync,omitempty"`
	// Stack is the name of what runs on servers.
	Stack string `json:"stack,omitempty"`
}

// records are what Records answers, kept until something is written.
type records struct {
	own     []fleet.Resource
	foreign map[string]string
}

// Records implements reconciler.Journal. Syncs that were added by hand are nobody's to
// declare but their own.
func (s *Store) Records(ctx context.Context, sync string) ([]fleet.Resource, map[string]string, error) {
	s.mu.Lock()
	kept, ok := s.records[sync]
	generation := s.generation
	s.mu.Unlock()
	if ok {
		return kept.own, kept.foreign, nil
	}
	type row struct {
		fleet.Resource
		sync string
	}
	rows, err := list(ctx, s.reader, func(sc scanner) (r row, err error) {
		err = sc.Scan(&r.Kind, &r.Name, &r.sync, jsonColumn{&r.Resource})
		return r, err
	}, `SELECT kind, name, sync, CASE WHEN sync = $1 THEN record ELSE '{}' END FROM resources
		WHERE sync = $1 OR sync IN (SELECT name FROM syncs) ORDER BY kind, name`, sync)
	if err != nil {
		return nil, nil, fmt.Errorf("read the records of sync %q: %w", sync, err)
	}
	kept.foreign = map[string]string{}
	for _, r := range rows {
		if r.sync == sync {
			kept.own = append(kept.own, r.Resource)
		} else {
			kept.foreign[r.Kind+"/"+r.Name] = r.sync
		}
	}
	syncs, err := s.Syncs(ctx)
	if err != nil {
		return nil, nil, err
	}
	for i := range syncs {
		if id := "resource_sync/" + syncs[i].Name; syncs[i].DeclaredBy == "" && syncs[i].Name != sync && kept.foreign[id] == "" {
			kept.foreign[id] = syncs[i].Name
		}
	}
	s.mu.Lock()
	if s.generation == generation {
		s.records[sync] = kept
	}
	s.mu.Unlock()
	return kept.own, kept.foreign, nil
}

// forget drops what is kept of the records.
func (s *Store) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	clear(s.records)
}

// Record implements reconciler.Journal: all of the changes, or none.
func (s *Store) Record(ctx context.Context, run reconciler.Run, desired fleet.Desired, changes []plan.ResourceChange) error {
	defer s.forget()
	known := gather(desired)
	err := s.write(ctx, func(tx *sql.Tx) error {
		for i := range changes {
			if err := s.recordOne(ctx, tx, run, known, &changes[i]); err != nil {
				return fmt.Errorf("%s: %w", changes[i].ID(), err)
			}
		}
		return s.addEvent(ctx, tx, api.Event{
			At: s.clock(), Kind: "resource", Sync: run.Sync, Actor: run.Actor, Run: run.ID, Commit: run.Plan.Commit.ID,
			Text: recordText(run, changes),
		})
	})
	if err != nil {
		return fmt.Errorf("record what sync %q declares: %w", run.Sync, err)
	}
	return nil
}

func recordText(run reconciler.Run, changes []plan.ResourceChange) string {
	const most = 10
	ids := make([]string, 0, most+1)
	for i := range changes {
		if len(ids) == most {
			ids = append(ids, fmt.Sprintf("and %d more", len(changes)-most))
			break
		}
		ids = append(ids, changes[i].ID())
	}
	return fmt.Sprintf("commit %s recorded: %s", run.Plan.Commit.Short(), strings.Join(ids, ", "))
}

func (s *Store) recordOne(ctx context.Context, tx *sql.Tx, run reconciler.Run, known declared, c *plan.ResourceChange) error {
	if c.Action == plan.ResourceDelete {
		_, err := tx.ExecContext(ctx, "DELETE FROM resources WHERE kind = $1 AND name = $2 AND sync = $3", c.Kind, c.Name, run.Sync)
		return err
	}
	record, err := encode(known.resources[c.Resource()])
	if err != nil {
		return err
	}
	shared, secret := known.shared(c.Kind, c.Name)
	sharedText, err := encode(shared)
	if err != nil {
		return err
	}
	n, err := affected(tx.ExecContext(ctx, `INSERT INTO resources
		(kind, name, sync, record, shared, secrets_sealed, source_commit, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kind, name) DO UPDATE
		SET sync = excluded.sync, record = excluded.record, shared = excluded.shared,
		secrets_sealed = excluded.secrets_sealed, source_commit = excluded.source_commit, updated_at = excluded.updated_at
		WHERE resources.sync = excluded.sync OR resources.sync NOT IN (SELECT name FROM syncs)`,
		c.Kind, c.Name, run.Sync, record, sharedText,
		s.sealer.seal(secretsOf(c.Kind, c.Name), []byte(secret.Reveal())), run.Plan.Commit.ID, stamp(s.clock())))
	if err == nil && n == 0 {
		err = fmt.Errorf("another sync declared it first: %w", ErrExists)
	}
	return err
}

func secretsOf(kind, name string) place {
	return place{table: "resources", column: "secrets_sealed", row: kind + "/" + name}
}

// declared is a desired state by name.
type declared struct {
	resources  map[string]fleet.Resource
	servers    map[string]*fleet.Server
	variables  map[string]*fleet.Variable
	repository map[string]*fleet.Repository
	hooks      map[string]*fleet.Hook
	syncs      map[string]*fleet.SyncSpec
}

func gather(d fleet.Desired) declared {
	known := declared{
		resources: make(map[string]fleet.Resource, len(d.Resources)), servers: map[string]*fleet.Server{},
		variables: map[string]*fleet.Variable{}, repository: map[string]*fleet.Repository{},
		hooks: map[string]*fleet.Hook{}, syncs: map[string]*fleet.SyncSpec{},
	}
	for _, r := range d.Resources {
		known.resources[r.ID()] = r
	}
	for i := range d.Servers {
		known.servers[d.Servers[i].Name] = &d.Servers[i]
	}
	for i := range d.Variables {
		known.variables[d.Variables[i].Name] = &d.Variables[i]
	}
	for i := range d.Repositories {
		known.repository[d.Repositories[i].Name] = &d.Repositories[i]
	}
	for i := range d.Hooks {
		known.hooks[d.Hooks[i].Kind+"/"+d.Hooks[i].Name] = &d.Hooks[i]
	}
	for i := range d.Syncs {
		known.syncs[d.Syncs[i].Name] = &d.Syncs[i]
	}
	return known
}

// shared is what others see of a resource, and its secret apart.
func (d declared) shared(kind, name string) (Shared, fleet.Secret) {
	var (
		out    Shared
		secret fleet.Secret
	)
	switch kind {
	case "server":
		out.Server = d.servers[name]
	case "variable":
		if out.Variable = d.variables[name]; out.Variable != nil {
			secret = out.Variable.Value
		}
	case "resource_sync":
		if out.Spec = d.syncs[name]; out.Spec != nil {
			secret = out.Spec.WebhookSecret
		}
	case "stack", "deployment", "repo":
		out.Stack, out.Repository = name, nil
		if kind == "repo" {
			out.Repository = d.repository[name]
		}
		if out.Hook = d.hooks[kind+"/"+name]; out.Hook != nil {
			secret = out.Hook.Secret
		}
	}
	return out, secret
}

// Shared lists what a sync sees of the others, with secrets.
func (s *Store) Shared(ctx context.Context, sync string) ([]Shared, error) {
	shared, err := list(ctx, s.reader, s.scanShared, `SELECT kind, name, sync, shared, secrets_sealed FROM resources
		WHERE sync <> $1 AND sync IN (SELECT name FROM syncs)
		AND kind IN ('server', 'variable', 'repo', 'stack', 'deployment') ORDER BY kind, name`, sync)
	if err != nil {
		return nil, fmt.Errorf("read what sync %q sees of others: %w", sync, err)
	}
	return shared, nil
}

// Hook is what a webhook to a stack or repo is checked against, with the sync that declares
// it.
func (s *Store) Hook(ctx context.Context, kind, name string) (string, fleet.Hook, error) {
	row := s.reader.QueryRowContext(ctx, `SELECT kind, name, sync, shared, secrets_sealed FROM resources
		WHERE kind = $1 AND name = $2 AND sync IN (SELECT name FROM syncs)`, kind, name)
	shared, err := found(s.scanShared(row))
	if err == nil && shared.Hook == nil {
		err = ErrNotFound
	}
	if err != nil {
		return "", fleet.Hook{}, fmt.Errorf("read the webhook of %s %q: %w", kind, name, err)
	}
	return shared.Sync, *shared.Hook, nil
}

func (s *Store) scanShared(row scanner) (Shared, error) {
	var (
		out        Shared
		kind, name string
		text       string
		sealed     []byte
	)
	if err := row.Scan(&kind, &name, &out.Sync, &text, &sealed); err != nil {
		return out, err
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return out, fmt.Errorf("decode %s/%s: %w", kind, name, err)
	}
	plain, err := s.sealer.open(secretsOf(kind, name), sealed)
	if err != nil {
		return out, err
	}
	secret := fleet.NewSecret(string(plain))
	if out.Variable != nil {
		out.Variable.Value = secret
	}
	if out.Hook != nil {
		out.Hook.Secret = secret
	}
	return out, nil
}

// Resources lists the records of all syncs, of one kind or of every, sorted.
func (s *Store) Resources(ctx context.Context, kind string) ([]api.Resource, error) {
	resources, err := list(ctx, s.reader, func(row scanner) (r api.Resource, err error) {
		err = row.Scan(jsonColumn{&r.Resource}, &r.Sync, &r.Commit, stampColumn{&r.Updated})
		return r, err
	}, `SELECT record, sync, source_commit, updated_at FROM resources
		WHERE ($1 = '' OR kind = $1) ORDER BY kind, name`, kind)
	if err != nil {
		return nil, fmt.Errorf("list resources: %w", err)
	}
	slices.SortStableFunc(resources, func(a, b api.Resource) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return resources, nil
}
