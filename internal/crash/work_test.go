//go:build linux

package crash_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/varanhq/varan/core/api"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// scenarios are the works that are killed.
func scenarios() []scenario {
	return []scenario{
		{name: "deploy", work: workDeploy, check: func(y *try) { y.await("the head runs", y.deployed) }},
		{name: "join", work: workJoin, check: checkJoin},
		{name: "rotation", work: workRotation, check: checkRotation},
		{name: "procedure", work: workProcedure, check: checkProcedure},
		{name: "migration", prepare: oldDatabase, work: func(ctx context.Context, y *try) { y.ready(ctx) }, check: checkMigration},
		{name: "core's key", work: workCoreKey, check: checkCoreKey},
		{name: "backup", prepare: withBackups, work: workBackup, check: checkBackup},
		{name: "agent joins", victim: ofAgent, work: func(ctx context.Context, y *try) { poll(ctx, y.online("alpha")) }, check: checkAgentJoined},
		{name: "agent rotates", victim: ofAgent, work: workRotation, check: checkRotation},
		{name: "agent pins", victim: ofAgent, work: workCoreKey, check: checkCoreKey},
		{
			name: "restore", victim: ofRestore, prepare: withLostCore, work: func(ctx context.Context, _ *try) { <-ctx.Done() },
			check: func(y *try) { y.await("the head runs", y.deployed) },
		},
	}
}

// workDeploy writes, pushes, and has that deployed.
func workDeploy(ctx context.Context, y *try) {
	y.setVariable(ctx, "FIRST")
	y.push(ctx)
	poll(ctx, y.deployed)
	y.setVariable(ctx, "SECOND")
}

// workJoin lets another server join.
func workJoin(ctx context.Context, y *try) {
	created, err := y.client().CreateOnboardingKey(ctx, api.OnboardingSpec{ServerGlob: "b*"})
	if err != nil {
		return
	}
	y.token = created
	y.join("beta", string(created.Token))
	poll(ctx, y.online("beta"))
}

// checkJoin wants the key used once: by the server that it was given to, and by nobody after.
func checkJoin(y *try) {
	if y.token.Token == "" {
		return
	}
	y.await("beta has joined", y.online("beta"))
	y.join("bravo", string(y.token.Token))
	servers, err := y.client().Servers(y.t.Context())
	joined := slices.DeleteFunc(servers, func(s api.Server) bool { return s.OnboardingKey != y.token.Key.ID })
	if err != nil || len(joined) != 1 {
		y.violated("%d servers joined with a key for one: %v", len(joined), err)
	}
}

func workRotation(ctx context.Context, y *try) {
	if !poll(ctx, y.online("alpha")) {
		return
	}
	_, _ = y.client().RotateKeys(ctx, api.KeyRotation{Server: "alpha"}, nil) // it is cut off
}

// checkRotation wants one key on both sides after one more change.
func checkRotation(y *try) {
	changed := func(ctx context.Context) bool {
		report, err := y.client().RotateKeys(ctx, api.KeyRotation{Server: "alpha"}, nil)
		return err == nil && !slices.ContainsFunc(report.Results, func(r api.KeyResult) bool { return r.Status != api.KeyRotated })
	}
	y.await("the key changes once more", changed)
	var keys api.FleetKeys
	var files []string
	y.await("one key is left", func(ctx context.Context) (ok bool) {
		now, err := y.client().FleetKeys(ctx)
		if err == nil {
			keys = now
		}
		var globErr error
		files, globErr = filepath.Glob(filepath.Join(y.dir, "agent-alpha", "keys", "*agent.key*"))
		return err == nil && globErr == nil && len(keys.Servers) == 1 && len(files) == 1
	})
	if len(files) != 1 || len(keys.Servers) != 1 {
		y.t.Logf("keys of the server: %+v\nfiles of its agent: %q", keys.Servers, files)
	}
}

func workCoreKey(ctx context.Context, y *try) {
	if !poll(ctx, y.online("alpha")) {
		return
	}
	_, _ = y.client().RotateKeys(ctx, api.KeyRotation{Core: true}, nil) // it is cut off
}

// checkCoreKey wants core's key to change once more, after which only that one is left.
func checkCoreKey(y *try) {
	var fault error
	y.await("core's key changes once more", func(ctx context.Context) bool {
		report, err := y.client().RotateKeys(ctx, api.KeyRotation{Core: true}, nil)
		fault = err
		return err == nil && len(report.Results) == 1 && report.Results[0].Status == api.KeyRotated
	})
	if fault != nil {
		y.t.Logf("core's key is not changed: %v", fault)
	}
	y.await("one key of core is left", func(context.Context) bool {
		files, err := filepath.Glob(filepath.Join(y.dir, "core", "keys", "*core.key*"))
		return err == nil && len(files) == 1
	})
	y.await("alpha is connected to it", y.online("alpha"))
}

// workProcedure runs the procedure and notes the run once core told of it.
func workProcedure(ctx context.Context, y *try) {
	if !poll(ctx, y.deployed) {
		return
	}
	run, _ := y.client().RunProcedure(ctx, "again", api.RunRequest{}, func(e api.ProcedureEvent) error {
		if e.ID != "" {
			y.started = e.ID
		}
		return nil
	})
	if run.Status != "" && run.Status != api.ProcedureSucceeded {
		y.violated("the procedure ended as %s: %s", run.Status, run.Reason)
	}
}

func checkProcedure(y *try) {
	if y.started != "" { // of which nothing had begun is begun again
		y.await("run "+y.started+" has ended", func(ctx context.Context) bool {
			run, err := y.client().ProcedureRun(ctx, y.started)
			return err == nil && !run.Ended.IsZero()
		})
	}
	y.await("the stack is well", y.deployed)
	run, err := y.client().RunProcedure(y.t.Context(), "again", api.RunRequest{}, func(api.ProcedureEvent) error { return nil })
	if err != nil || run.Status != api.ProcedureSucceeded {
		y.violated("the procedure cannot run again: %s %s %v", run.Status, run.Reason, err)
	}
}

func checkAgentJoined(y *try) {
	tokens, err := y.client().OnboardingKeys(y.t.Context())
	i := slices.IndexFunc(tokens, func(k api.OnboardingKey) bool { return k.ID == y.token.Key.ID })
	if err != nil || i < 0 || tokens[i].Uses != 1 {
		y.violated("the onboarding key was not used once: %v %v", tokens, err)
	}
}

// oldVersion is the schema that migration starts from.
const oldVersion = 3

// oldDatabase replaces the template's database by one with an old schema and the same content,
// as far as that schema had a place for it.
func oldDatabase(l *lab) {
	path := filepath.Join(l.template, "core", "varan.db")
	fresh := filepath.Join(l.t.TempDir(), "fresh.db")
	must(l.t, os.Rename(path, fresh))
	_ = os.Remove(path + "-wal")
	_ = os.Remove(path + "-shm")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	must(l.t, err)
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	do := func(query string) {
		if _, err := db.Exec(query); err != nil {
			l.t.Fatalf("%s: %v", query, err)
		}
	}
	files, err := filepath.Glob("../../core/store/migrations/*.sql")
	must(l.t, err)
	for _, file := range files[:oldVersion] {
		script, err := os.ReadFile(file)
		must(l.t, err)
		do(string(script))
	}
	do(fmt.Sprintf("PRAGMA user_version = %d", oldVersion))
	do("ATTACH '" + fresh + "' AS fresh")
	do("PRAGMA foreign_keys = 0")
	for table := range strings.FieldsSeq(column(l.t, db, "SELECT group_concat(name, ' ') FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")) {
		common := column(l.t, db, `SELECT coalesce(group_concat(name, ', '), '') FROM (SELECT name FROM pragma_table_info('`+table+`', 'main')
			INTERSECT SELECT name FROM pragma_table_info('`+table+`', 'fresh'))`)
		if common != "" {
			do("INSERT OR IGNORE INTO main." + table + " (" + common + ") SELECT " + common + " FROM fresh." + table)
		}
	}
	// Servers carried their key themselves then.
	do(`INSERT INTO main.servers (name, public_key, tags, tier, pending, epoch, onboarded_at)
		SELECT s.name, k.public_key, s.tags, s.tier, s.pending, s.epoch, s.onboarded_at
		FROM fresh.servers s JOIN fresh.keys k ON k.server = s.name AND k.state = 'current'`)
	do("DETACH fresh")
	do("DELETE FROM events WHERE kind = 'checkpoint'") // there were none
}

func column(t *testing.T, db *sql.DB, query string) (text string) {
	t.Helper()
	if err := db.QueryRow(query).Scan(&text); err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.Fatalf("%s: %v", query, err)
	}
	return text
}

// checkMigration wants what was there before, and to work with it.
func checkMigration(y *try) { y.await("the head runs", y.deployed) }
