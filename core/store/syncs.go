package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/varanhq/varan/core/api"
	"github.com/varanhq/varan/fleet"
)

const syncColumns = `name, url, branch, paths, match_tags, interval_seconds,
	auto_apply, delete_orphans, self_heal, max_removals, created_at, declared_by, spec, signatures`

// AddSync records a sync. ErrExists when there is one of that name.
func (s *Store) AddSync(ctx context.Context, spec api.SyncSpec) error {
	credentials, err := json.Marshal(spec.Credentials) //nolint:gosec // sealed before it is written
	if err != nil {
		return fmt.Errorf("encode the credentials of sync %q: %w", spec.Name, err)
	}
	paths, err := encode(spec.Paths)
	if err != nil {
		return err
	}
	tags, err := encode(spec.MatchTags)
	if err != nil {
		return err
	}
	signatures, err := encode(spec.Signatures)
	if err != nil {
		return err
	}
	n, err := s.exec(ctx, `INSERT INTO syncs
		(name, url, branch, paths, match_tags, interval_seconds, auto_apply, delete_orphans, self_heal,
		 max_removals, webhook_secret_sealed, credentials_sealed, created_at, signatures)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING`,
		spec.Name, spec.URL, spec.Branch, paths, tags, spec.IntervalSeconds,
		spec.AutoApply, spec.Delete, spec.SelfHeal, spec.MaxRemovals,
		s.sealer.seal(webhookSecretOf(spec.Name), []byte(spec.WebhookSecret)),
		s.sealer.seal(credentialsOf(spec.Name), credentials),
		stamp(s.clock()), signatures)
	s.forget()
	if err == nil && n == 0 {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("add sync %q: %w", spec.Name, err)
	}
	return nil
}

// DeclareSync creates or replaces a sync that another one declares. A sync that declares
// itself changes its settings, and keeps its repository and what opens that. ErrExists when
// the name is that of somebody else's sync.
func (s *Store) DeclareSync(ctx context.Context, by string, settings api.SyncSpec, declared fleet.SyncSpec) error {
	paths, err := encode(settings.Paths)
	if err != nil {
		return err
	}
	tags, err := encode(settings.MatchTags)
	if err != nil {
		return err
	}
	spec, err := encode(declared)
	if err != nil {
		return err
	}
	signatures, err := encode(settings.Signatures)
	if err != nil {
		return err
	}
	defer s.forget()
	n, err := s.exec(ctx, `INSERT INTO syncs
		(name, url, branch, paths, match_tags, interval_seconds, auto_apply, delete_orphans, self_heal,
		 max_removals, webhook_secret_sealed, credentials_sealed, created_at, declared_by, spec, signatures)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $17) ON CONFLICT (name) DO UPDATE
		SET url = excluded.url, branch = excluded.branch, paths = excluded.paths, match_tags = excluded.match_tags,
		interval_seconds = excluded.interval_seconds, auto_apply = excluded.auto_apply,
		delete_orphans = excluded.delete_orphans, self_heal = excluded.self_heal, max_removals = excluded.max_removals,
		webhook_secret_sealed = CASE WHEN $16 THEN excluded.webhook_secret_sealed ELSE syncs.webhook_secret_sealed END,
		spec = excluded.spec, signatures = excluded.signatures
		WHERE syncs.declared_by = excluded.declared_by AND syncs.declared_by <> ''
			OR syncs.name = $14 AND syncs.declared_by = ''`,
		settings.Name, settings.URL, settings.Branch, paths, tags, settings.IntervalSeconds,
		settings.AutoApply, settings.Delete, settings.SelfHeal, settings.MaxRemovals,
		s.sealer.seal(webhookSecretOf(settings.Name), []byte(settings.WebhookSecret)),
		s.sealer.seal(credentialsOf(settings.Name), []byte("{}")),
		stamp(s.clock()), by, spec, settings.Name != by || settings.WebhookSecret != "" || declared.NoWebhook, signatures)
	if err == nil && n == 0 {
		err = ErrExists
	}
	if err != nil {
		return fmt.Errorf("declare sync %q: %w", settings.Name, err)
	}
	return nil
}

// UndeclareSync removes a sync that another one declared, and reports whether it did.
func (s *Store) UndeclareSync(ctx context.Context, by, name string) (bool, error) {
	defer s.forget()
	n, err := s.exec(ctx, "DELETE FROM syncs WHERE name = $1 AND declared_by = $2 AND declared_by <> ''", name, by)
	if err != nil {
		return false, fmt.Errorf("remove sync %q: %w", name, err)
	}
	return n > 0, nil
}

// RemoveSync forgets a sync. Its inventory stays, unused, so that a sync added again under
// the same name still owns what it deployed.
func (s *Store) RemoveSync(ctx context.Context, name string) error {
	defer s.forget()
	if err := oneRow(s.exec(ctx, "DELETE FROM syncs WHERE name = $1", name)); err != nil {
		return fmt.Errorf("remove sync %q: %w", name, err)
	}
	return nil
}

// Syncs lists the syncs by name, without their state.
func (s *Store) Syncs(ctx context.Context) ([]api.Sync, error) {
	syncs, err := list(ctx, s.reader, scanSync, "SELECT "+syncColumns+" FROM syncs ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("list syncs: %w", err)
	}
	return syncs, nil
}

// Sync returns one sync, without its state.
func (s *Store) Sync(ctx context.Context, name string) (api.Sync, error) {
	sync, err := s.syncs.get(ctx, s, name, func(ctx context.Context) (api.Sync, error) {
		return found(scanSync(s.reader.QueryRowContext(ctx, "SELECT "+syncColumns+" FROM syncs WHERE name = $1", name)))
	})
	if err != nil {
		return sync, fmt.Errorf("read sync %q: %w", name, err)
	}
	return sync, nil
}

// WebhookSecret is what a sync's Git host signs with.
func (s *Store) WebhookSecret(ctx context.Context, sync string) (fleet.Secret, error) {
	plain, err := s.unseal(ctx, webhookSecretOf(sync))
	if err != nil {
		return fleet.Secret{}, fmt.Errorf("read the webhook secret of sync %q: %w", sync, err)
	}
	return fleet.NewSecret(string(plain)), nil
}

// Credentials open a sync's repository.
func (s *Store) Credentials(ctx context.Context, sync string) (api.GitCredentials, error) {
	var credentials api.GitCredentials
	plain, err := s.unseal(ctx, credentialsOf(sync))
	if err == nil {
		err = json.Unmarshal(plain, &credentials)
	}
	if err != nil {
		return credentials, fmt.Errorf("read the credentials of sync %q: %w", sync, err)
	}
	return credentials, nil
}

func webhookSecretOf(sync string) place {
	return place{table: "syncs", column: "webhook_secret_sealed", row: sync}
}

func credentialsOf(sync string) place {
	return place{table: "syncs", column: "credentials_sealed", row: sync}
}

// unseal reads a sealed cell of the syncs table. The names in the query are constants.
func (s *Store) unseal(ctx context.Context, at place) ([]byte, error) {
	query := "SELECT webhook_secret_sealed FROM syncs WHERE name = $1"
	if at.column == "credentials_sealed" {
		query = "SELECT credentials_sealed FROM syncs WHERE name = $1"
	}
	var sealed []byte
	_, err := found(struct{}{}, s.reader.QueryRowContext(ctx, query, at.row).Scan(&sealed))
	if err != nil {
		return nil, err
	}
	return s.sealer.open(at, sealed)
}

func scanSync(row scanner) (api.Sync, error) {
	var y api.Sync
	err := row.Scan(&y.Name, &y.URL, &y.Branch, jsonColumn{&y.Paths}, jsonColumn{&y.MatchTags},
		&y.IntervalSeconds, &y.AutoApply, &y.Delete, &y.SelfHeal, &y.MaxRemovals, stampColumn{&y.Created},
		&y.DeclaredBy, jsonColumn{&y.Declared}, jsonColumn{&y.Signatures})
	return y, err
}

// Believed is the last commit of a sync whose signatures were accepted; empty when there is
// none.
func (s *Store) Believed(ctx context.Context, sync string) (string, error) {
	var commit string
	_, err := found(struct{}{}, s.reader.QueryRowContext(ctx, "SELECT believed FROM syncs WHERE name = $1", sync).Scan(&commit))
	if err != nil {
		return "", fmt.Errorf("read the last signed commit of sync %q: %w", sync, err)
	}
	return commit, nil
}

// Believe records a commit whose signatures were accepted.
func (s *Store) Believe(ctx context.Context, sync, commit string) error {
	if err := oneRow(s.exec(ctx, "UPDATE syncs SET believed = $2 WHERE name = $1", sync, commit)); err != nil {
		return fmt.Errorf("record a signed commit of sync %q: %w", sync, err)
	}
	return nil
}
