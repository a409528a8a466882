package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/backup"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/internal/atomicfile"
	"github.com/varanhq/varan/sync/sops"
)

// RestoreConfig says what to make a core of. All of it is required.
type RestoreConfig struct {
	// From is a backup, Identity a file of age identities of which one opens it.
	From     io.Reader
	Identity []byte
	// Dir is core's data directory. It must be empty, or hold no more than what a restore left
	// that was cut off.
	Dir string
	// Confirm sees what is in the backup. With an error nothing is restored.
	Confirm func(contents api.BackupContents) error
}

// restoringDir is where a restore has the files until all of them are there and whole. As long
// as it holds keys, or the directory has none, core does not start there.
const restoringDir = ".restoring"

// Restore makes a core's data directory of a backup. It is all there, or nothing that a core
// would start with.
func Restore(ctx context.Context, cfg RestoreConfig) (out api.BackupContents, err error) {
	ids, err := identitiesOf(cfg.Identity)
	if err != nil {
		return out, err
	}
	d := dataDir(cfg.Dir)
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return out, fmt.Errorf("create the data directory: %w", err)
	}
	if err := d.vacant(); err != nil {
		return out, err
	}
	unlock, err := d.lock()
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	r := &restore{dir: d, ids: ids, confirm: cfg.Confirm, step: func(string) error { return nil }}
	if err := r.run(ctx, cfg.From); err != nil {
		return r.contents, errors.Join(err, r.empty())
	}
	return r.contents, nil
}

// VerifyBackup checks everything about a backup but whether its recipients are the right ones.
// The database is unpacked below temp for that, and removed again; the keys are not.
func VerifyBackup(ctx context.Context, from io.Reader, identity []byte, temp string) (out api.BackupContents, err error) {
	ids, err := identitiesOf(identity)
	if err != nil {
		return out, err
	}
	dir, err := os.MkdirTemp(temp, "varan-verify-")
	if err != nil {
		return out, fmt.Errorf("make a place for the database: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	return unpack(ctx, from, ids, dir, func(name string) bool { return name == backup.Database })
}

func identitiesOf(file []byte) (*sops.Identities, error) {
	ids := &sops.Identities{}
	if err := ids.AddAge(file); err != nil {
		return nil, &api.Error{
			Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid, Message: fmt.Sprintf("the identity: %v", err),
			Hint: "it is the file that varan key age generate --file wrote",
		}
	}
	return ids, nil
}

// refusedBackup is a backup that is not restored.
func refusedBackup(err error) error {
	refusal := &api.Error{Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid, Message: err.Error()}
	switch {
	case errors.Is(err, sops.ErrNotForUs):
		refusal.Message = "the backup is encrypted for somebody else: " + err.Error()
		refusal.Hint = "backups are encrypted for what backup.recipients was when they were made"
	case errors.Is(err, backup.ErrDamaged):
		refusal.Hint = "take another one; sha256sum -c FILE.sha256 says whether it changed since it was made"
	}
	return refusal
}

// unpack takes a backup apart and checks all of it. Files that are wanted are written to dir.
func unpack(ctx context.Context, from io.Reader, ids *sops.Identities, dir string, wanted func(name string) bool) (out api.BackupContents, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return out, fmt.Errorf("open %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	if err := root.Mkdir("keys", 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return out, fmt.Errorf("make a place for the keys: %w", err)
	}
	m, err := backup.Read(ctx, from, ids, knownSchema, func(name string) (io.WriteCloser, error) {
		if !wanted(name) {
			return nil, nil //nolint:nilnil // the reader's way to only check
		}
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("create %s: %w", name, err)
		}
		return durable{f}, nil
	})
	if err != nil {
		if errors.Is(err, backup.ErrDamaged) || errors.Is(err, sops.ErrNotForUs) {
			err = refusedBackup(err)
		}
		return out, err
	}
	snapshot, err := store.Inspect(ctx, filepath.Join(dir, backup.Database))
	if err != nil {
		return out, refusedBackup(err)
	}
	if snapshot.Schema != m.Schema || !maps.Equal(snapshot.Rows, m.Rows) {
		return out, refusedBackup(fmt.Errorf("%w: its database is not the one that the manifest describes", backup.ErrDamaged))
	}
	return contents(m, snapshot), nil
}

// knownSchema refuses databases of newer releases before anything is written.
func knownSchema(m backup.Manifest) error {
	if newest := store.SchemaVersion(); m.Schema > newest {
		return &api.Error{
			Status: http.StatusUnprocessableEntity, Code: api.CodeInvalid,
			Message: fmt.Sprintf("the backup was made by varan %s: its database has schema %d, this program knows %d", m.Program, m.Schema, newest),
			Hint:    "restore it with that release, or a newer one",
		}
	}
	return nil
}

// durable is a file that is on disk when it is closed.
type durable struct{ *os.File }

// Close implements io.Closer.
func (f durable) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

// whole refuses a directory in which a restore was cut off.
func (d dataDir) whole() error {
	_, err := os.Lstat(d.path(restoringDir))
	if _, keys := os.Lstat(d.path("keys")); err == nil && (d.staged() || errors.Is(keys, fs.ErrNotExist)) {
		return &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict, Message: "a restore was cut off in " + string(d),
			Hint: "run varan restore again",
		}
	}
	return nil
}

// staged reports whether a restore has brought its keys, without which it puts nothing in place.
func (d dataDir) staged() bool {
	_, err := os.Lstat(d.path(restoringDir, "keys"))
	return err == nil
}

// leftovers are what a restore that was cut off may have left in the directory, in the order in
// which they go: what says so goes last.
var leftovers = []string{"varan.db", "varan.db-wal", "varan.db-shm", "mirrors", restoringDir}

// vacant refuses a directory that holds anything else.
func (d dataDir) vacant() error {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return fmt.Errorf("read the data directory: %w", err)
	}
	cutOff, staged := d.whole() != nil, d.staged()
	for _, e := range entries {
		name := e.Name()
		if name == "lock" || name == "lost+found" || staged && slices.Contains(leftovers, name) || cutOff && name == restoringDir {
			continue
		}
		return &api.Error{
			Status: http.StatusConflict, Code: api.CodeConflict, Message: fmt.Sprintf("%s is not empty: it holds %s", d, name),
			Hint: "restore into a directory of its own, or move that one away first",
		}
	}
	return nil
}

// restore is one restore under way.
type restore struct {
	dir      dataDir
	ids      *sops.Identities
	confirm  func(api.BackupContents) error
	contents api.BackupContents
	// step is called after each step that lasts; a test has the restore die there.
	step func(name string) error
}

// empty removes what there is, so that nothing is left of a restore but the directory.
func (r *restore) empty() (err error) {
	for _, name := range leftovers {
		err = errors.Join(err, os.RemoveAll(r.dir.path(name)))
	}
	return err
}

func (r *restore) run(ctx context.Context, from io.Reader) (err error) {
	if err := r.empty(); err != nil {
		return fmt.Errorf("remove what the last restore left: %w", err)
	}
	staged := dataDir(r.dir.path(restoringDir))
	steps := []struct {
		name string
		do   func() error
	}{
		{"begin", func() error {
			return errors.Join(os.MkdirAll(staged.path("keys"), 0o700), atomicfile.SyncDir(string(r.dir)))
		}},
		{"unpack", func() error {
			r.contents, err = unpack(ctx, from, r.ids, string(staged), func(string) bool { return true })
			return err
		}},
		{"confirm", func() error { return r.confirm(r.contents) }},
		{"prepare", func() error { return r.prepare(ctx, staged) }},
		{"mirrors", func() error { return os.MkdirAll(r.dir.path("mirrors"), 0o700) }},
		{"database", func() error { return r.move(staged, backup.Database) }},
		// With the keys the directory becomes a core's, in one step.
		{"keys", func() error { return r.move(staged, "keys") }},
		{"end", func() error { return os.RemoveAll(string(staged)) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return err
		}
		if err := r.step(step.name); err != nil {
			return err
		}
	}
	return nil
}

func (r *restore) move(from dataDir, name string) error {
	if err := os.Rename(from.path(name), r.dir.path(name)); err != nil {
		return fmt.Errorf("put %s in place: %w", name, err)
	}
	return atomicfile.SyncDir(string(r.dir))
}

// prepare brings the database up to date, checks that the keys are its keys, and ends what was
// good for one time.
func (r *restore) prepare(ctx context.Context, staged dataDir) (err error) {
	keys, err := staged.loadKeys()
	if err != nil {
		return err
	}
	s, err := store.Open(ctx, store.Config{Path: staged.path(backup.Database), SealKey: keys.seal})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.Close(), atomicfile.SyncDir(string(staged)), atomicfile.SyncDir(staged.path("keys")))
	}()
	if _, err := s.RevealVariables(ctx); err != nil {
		return refusedBackup(fmt.Errorf("%w: its keys do not open its secrets: %w", backup.ErrDamaged, err))
	}
	return s.Restored(ctx, api.Event{Kind: "backup", Actor: "restore", Status: "succeeded", Text: fmt.Sprintf(
		"core was restored from the backup of %s, which varan %s made", r.contents.Created.UTC().Format("2006-01-02 15:04:05 UTC"), r.contents.Program)})
}
