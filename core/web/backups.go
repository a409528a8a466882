package web

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/core/auth"
)

// Backups makes backups of core. Whoever asks for one cannot choose for whom it is encrypted:
// an API key must not be worth more than what it opens.
type Backups interface {
	// List is what there is.
	List() (api.Backups, error)
	// Make makes one that core keeps. news is called by the caller's goroutine.
	Make(ctx context.Context, actor string, news func(text string)) (api.Backup, error)
	// Export makes one for the caller, who must close it.
	Export(ctx context.Context, actor string) (api.Backup, io.ReadCloser, error)
}

func (s *server) registerBackups(a huma.API) {
	if s.Backups == nil {
		return
	}
	handle(s, a, route(http.MethodGet, "/backups", "listBackups", "The backups that core keeps"),
		func(context.Context, *none) (api.Backups, error) { return s.Backups.List() })
	stream(s, a, route(http.MethodPost, "/backups", "makeBackup", "Make a backup of core; JSON lines of api.BackupEvent"),
		func(ctx context.Context, _ *none) (func(huma.Context), error) {
			actor := auth.ActorOf(ctx).Name
			return func(hc huma.Context) { s.makeBackup(ctx, hc, actor) }, nil
		})
	stream(s, a, route(http.MethodPost, "/backups/export", "exportBackup", "Make a backup of core and answer with it"),
		func(ctx context.Context, _ *none) (func(huma.Context), error) {
			backup, content, err := s.Backups.Export(ctx, auth.ActorOf(ctx).Name)
			if err != nil {
				return nil, err
			}
			return func(hc huma.Context) {
				defer func() { _ = content.Close() }()
				hc.SetHeader("Content-Type", "application/octet-stream")
				hc.SetHeader("Content-Length", strconv.FormatInt(backup.Bytes, 10))
				hc.SetHeader(api.BackupNameHeader, backup.Name)
				hc.SetHeader(api.BackupSumHeader, backup.SHA256)
				hc.SetStatus(http.StatusOK)
				_, _ = io.Copy(hc.BodyWriter(), content) // the length tells the client what is missing
			}, nil
		})
}

func (s *server) makeBackup(ctx context.Context, hc huma.Context, actor string) {
	lines := newLineWriter(hc)
	defer lines.close()
	backup, err := s.Backups.Make(ctx, actor, func(text string) { lines.write(api.BackupEvent{Text: text}) })
	if err != nil {
		lines.write(api.BackupEvent{Error: s.failure(ctx, err)})
		return
	}
	lines.write(api.BackupEvent{Backup: &backup})
}
