package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/backup"
	"github.com/varanhq/varan/core/store"
	"github.com/varanhq/varan/core/web"
	"github.com/varanhq/varan/fleet"
	"github.com/varanhq/varan/internal/buildinfo"
	"github.com/varanhq/varan/wire/noise"
)

const (
	// keysLook is how often it is looked whether somebody may connect whom the last backup does
	// not know, or the other way round: a core made of it would lock out the one, and let in
	// the other.
	keysLook = 5 * time.Minute
	// backupTimeout bounds a backup that was begun by itself.
	backupTimeout = time.Hour
	// tellEvery is how many bytes pass between two words about the progress.
	tellEvery = 64 << 20
)

var _ web.Backups = (*backups)(nil)

// backups makes backups of core.
type backups struct {
	dir   dataDir
	core  *core
	every time.Duration
	// turn has capacity 1: whoever makes a backup puts a value in.
	turn chan struct{}
	// known is who may connect as of the last backup, next as of the one that is made.
	known, next string
}

func newBackups(c *core) *backups {
	return &backups{dir: dataDir(c.settings().Dir), core: c, every: keysLook, turn: make(chan struct{}, 1)}
}

// place is where backups are kept.
func (b *backups) place(s *BackupSettings) string {
	if s.Dir != "" {
		return s.Dir
	}
	return b.dir.path("backups")
}

// Run makes a backup when keys have changed, until ctx ends. The first look says from what on.
func (b *backups) Run(ctx context.Context) error {
	known, err := b.core.store.Admissions(ctx)
	b.failed(ctx, "keys not compared with the last backup", err)
	b.turn <- struct{}{}
	if b.known == "" {
		b.known = known
	}
	b.failed(ctx, "what a backup left behind not removed", b.clean())
	<-b.turn
	ticker := time.NewTicker(b.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			b.look(ctx)
		}
	}
}

// look makes a backup if who may connect is not what it was at the last one.
func (b *backups) look(ctx context.Context) {
	settings := b.core.settings().Backup
	if len(settings.Recipients) == 0 {
		return
	}
	now, err := b.core.store.Admissions(ctx)
	if err != nil {
		b.failed(ctx, "keys not compared with the last backup", err)
		return
	}
	b.turn <- struct{}{}
	same := now == b.known
	<-b.turn
	if same {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, backupTimeout)
	defer cancel()
	_, err = b.keep(ctx, "core", true, func(string) {})
	b.failed(ctx, "no backup after keys changed", err)
}

func (b *backups) failed(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		b.core.cfg.Logger.LogAttrs(ctx, slog.LevelError, what, slog.Any("err", err)) //nolint:sloglint // every caller gives a literal
	}
}

// clean removes what a process that was killed left: copies of the database, and backups that
// were not finished.
func (b *backups) clean() error {
	settings := b.core.settings().Backup
	return errors.Join(os.RemoveAll(b.dir.path(scratchDir)), backup.Clean(b.place(&settings)))
}

// scratchDir is where a backup is prepared.
const scratchDir = ".backup"

// task carries out BackupCoreDatabase.
func (b *backups) task(ctx context.Context, _ *fleet.Execution, news func(string)) (string, error) {
	made, err := b.keep(ctx, "core", false, news)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %d bytes", made.Name, made.Bytes), nil
}

// Make implements web.Backups.
func (b *backups) Make(ctx context.Context, actor string, news func(string)) (api.Backup, error) {
	return b.keep(ctx, actor, false, news)
}

// List implements web.Backups.
func (b *backups) List() (api.Backups, error) {
	settings := b.core.settings().Backup
	out := api.Backups{Dir: b.place(&settings), Recipients: slices.Clone(settings.Recipients), Keep: settings.Keep, Backups: []api.Backup{}}
	if out.Recipients == nil {
		out.Recipients = []string{}
	}
	entries, err := backup.List(out.Dir)
	for _, e := range entries {
		out.Backups = append(out.Backups, api.Backup{Name: e.Name, Created: e.Created, Reason: reasonOf(e.Keys), Bytes: e.Size, SHA256: e.SHA256})
	}
	return out, err
}

func reasonOf(keys bool) string {
	if keys {
		return api.BackupKeys
	}
	return api.BackupAsked
}

// keep makes a backup in the directory of backups, and removes the oldest ones.
func (b *backups) keep(ctx context.Context, actor string, keys bool, news func(string)) (made api.Backup, err error) {
	settings := b.core.settings().Backup
	var removed []string
	made, err = b.make(ctx, actor, &settings, b.place(&settings), news, func(temp string, made *api.Backup) error {
		var err error
		made.Reason = reasonOf(keys)
		if made.Name, err = backup.Keep(temp, made.Created, keys, made.SHA256); err != nil {
			return err
		}
		b.known = b.next
		removed, err = backup.Prune(filepath.Dir(temp), settings.Keep)
		return err
	})
	for _, name := range removed {
		news("removed " + name)
	}
	return made, err
}

// Export implements web.Backups.
func (b *backups) Export(ctx context.Context, actor string) (made api.Backup, content io.ReadCloser, err error) {
	settings := b.core.settings().Backup
	made, err = b.make(ctx, actor, &settings, b.dir.path(scratchDir), func(string) {}, func(temp string, made *api.Backup) error {
		made.Reason, made.Name = api.BackupAsked, backup.Name(made.Created, false)
		f, err := os.Open(temp)
		if err == nil {
			// The file lives as long as somebody reads it, and no longer.
			content = f
			err = os.Remove(temp)
		}
		return err
	})
	if err != nil && content != nil {
		_ = content.Close()
	}
	return made, content, err
}

// make makes one backup and records what became of it. finish gives the file that was written
// its place.
func (b *backups) make(ctx context.Context, actor string, settings *BackupSettings, dir string, news func(string),
	finish func(temp string, made *api.Backup) error,
) (made api.Backup, err error) {
	if len(settings.Recipients) == 0 {
		err = errNoRecipients()
	} else {
		select {
		case b.turn <- struct{}{}:
			defer func() { <-b.turn }()
		case <-ctx.Done():
			return made, ctx.Err()
		}
		made, err = b.write(ctx, settings, dir, news, finish)
	}
	event := api.Event{Kind: "backup", Actor: actor, Status: "succeeded", DurationMS: time.Since(made.Created).Milliseconds()}
	if err != nil {
		if !made.Created.IsZero() {
			err = fmt.Errorf("back up core: %w", err)
		} else {
			event.DurationMS = 0
		}
		event.Status, event.Text = "failed", "core was not backed up: "+err.Error()
		b.core.alerts.BackupFailed(err.Error())
	} else {
		event.Text = fmt.Sprintf("core was backed up: %s, %d bytes, SHA-256 %s", made.Name, made.Bytes, made.SHA256)
		b.core.alerts.BackupMade()
	}
	b.core.record(context.WithoutCancel(ctx), event)
	return made, err
}

func errNoRecipients() error {
	return &api.Error{
		Status: http.StatusConflict, Code: api.CodeConflict, Message: "there is nobody to encrypt a backup for: backup.recipients is empty",
		Hint: "varan key age generate --file backup.key, keep that file elsewhere, and set backup.recipients to what it prints",
	}
}

// write copies the database, encrypts it with the keys, and makes that durable.
func (b *backups) write(ctx context.Context, settings *BackupSettings, dir string, news func(string),
	finish func(temp string, made *api.Backup) error,
) (made api.Backup, err error) {
	made.Created = time.Now().UTC()
	scratch := b.dir.path(scratchDir)
	if err := errors.Join(os.RemoveAll(scratch), os.Mkdir(scratch, 0o700)); err != nil {
		return made, fmt.Errorf("make a place for the backup: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	manifest, sources, err := b.gather(ctx, scratch)
	if err != nil {
		return made, err
	}
	manifest.Created = made.Created
	news("the database is copied and whole")
	out, err := backup.Temp(dir)
	if err != nil {
		return made, err
	}
	defer func() {
		_ = out.Close() // what counts is synced before
		if e := os.Remove(out.Name()); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}()
	next := int64(tellEvery)
	err = backup.Write(ctx, out, settings.Recipients, manifest, sources, func(done, total int64) {
		if done >= next {
			next += tellEvery
			news(fmt.Sprintf("%d of %d bytes encrypted", done, total))
		}
	})
	if err != nil {
		return made, err
	}
	if made.SHA256, made.Bytes, err = backup.Sum(out); err != nil {
		return made, err
	}
	err = finish(out.Name(), &made)
	return made, err
}

// gather copies what goes into a backup, as it is at one moment of core's own key.
func (b *backups) gather(ctx context.Context, scratch string) (m backup.Manifest, sources []backup.Source, err error) {
	release, err := b.core.keyring.core.hold(ctx)
	if err != nil {
		return m, nil, err
	}
	defer release()
	// Read before the copy: what changes in between is then seen as a change.
	known, err := b.core.store.Admissions(ctx)
	if err != nil {
		return m, nil, err
	}
	path := filepath.Join(scratch, backup.Database)
	snapshot, err := b.core.store.Snapshot(ctx, path)
	if err != nil {
		return m, nil, err
	}
	keys, err := b.dir.keyFiles()
	if err != nil {
		return m, nil, err
	}
	b.next = known
	m = backup.Manifest{
		Program: buildinfo.Version(), Schema: snapshot.Schema, Rows: snapshot.Rows,
		Core: b.core.keyring.core.have().Current.Public().Fingerprint().String(),
	}
	return m, append([]backup.Source{{Name: backup.Database, Path: path}}, keys...), nil
}

// keyNames are the files of keys/ that a core consists of. Some need not be there.
func keyNames() []string {
	return []string{
		"core.key", "core.key.next", "core.key.prev", "seal.key", "digest.key",
		"age-" + string(fleet.TierTrusted) + ".key", "age-" + string(fleet.TierUntrusted) + ".key",
		"pgp-" + string(fleet.TierTrusted) + ".asc", "pgp-" + string(fleet.TierUntrusted) + ".asc",
	}
}

func (d dataDir) keyFiles() (files []backup.Source, err error) {
	for _, name := range keyNames() {
		data, err := readPrivate(d.path("keys", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		files = append(files, backup.Source{Name: "keys/" + name, Data: data})
	}
	return files, nil
}

// contents is what there is to say of a backup.
func contents(m backup.Manifest, s store.Snapshot) api.BackupContents {
	out := api.BackupContents{
		Created: m.Created, Program: m.Program, Schema: m.Schema, Core: m.Core, Rows: s.Rows,
		APIKeys: s.APIKeys, OnboardingKeys: s.Onboarding, Servers: []api.BackupKey{}, Files: []api.BackupFile{},
	}
	for _, f := range m.Files {
		out.Files = append(out.Files, api.BackupFile{Name: f.Name, Bytes: f.Size, SHA256: f.SHA256})
	}
	for _, k := range s.Servers {
		out.Servers = append(out.Servers, api.BackupKey{
			Server: k.Server, State: string(k.State), PublicKey: k.PublicKey, Fingerprint: fingerprintOf(k.PublicKey), Since: k.Since,
		})
	}
	return out
}

// fingerprintOf is that of a public key as it is printed; empty for what is none.
func fingerprintOf(publicKey string) string {
	key, err := noise.ParsePublicKey(publicKey)
	if err != nil {
		return ""
	}
	return key.Fingerprint().String()
}
