-- Times are nanoseconds since 1970 in UTC, zero for "never". Lists are JSON. Columns that
-- end in _sealed are encrypted with a key that is not in the database.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value BIGINT NOT NULL
);

CREATE TABLE syncs (
  name                  TEXT PRIMARY KEY,
  url                   TEXT NOT NULL,
  branch                TEXT NOT NULL,
  paths                 TEXT NOT NULL,
  match_tags            TEXT NOT NULL,
  interval_seconds      BIGINT NOT NULL,
  auto_apply            BOOLEAN NOT NULL,
  delete_orphans        BOOLEAN NOT NULL,
  self_heal             BOOLEAN NOT NULL,
  max_removals          BIGINT NOT NULL,
  webhook_secret_sealed BLOB NOT NULL,
  credentials_sealed    BLOB NOT NULL,
  created_at            BIGINT NOT NULL
);

-- A secret's value is sealed, any other is kept as it is.
CREATE TABLE variables (
  name       TEXT PRIMARY KEY,
  value      BLOB NOT NULL,
  secret     BOOLEAN NOT NULL,
  updated_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
  id           TEXT PRIMARY KEY,
  name         TEXT NOT NULL,
  hash         BLOB NOT NULL,
  created_at   BIGINT NOT NULL,
  last_used_at BIGINT NOT NULL
);

CREATE TABLE servers (
  name         TEXT PRIMARY KEY,
  public_key   TEXT NOT NULL UNIQUE,
  tags         TEXT NOT NULL,
  tier         TEXT NOT NULL,
  pending      BOOLEAN NOT NULL,
  epoch        BIGINT NOT NULL,
  onboarded_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX servers_by_folded_name ON servers (lower(name));

CREATE TABLE onboarding_keys (
  id          TEXT PRIMARY KEY,
  name        TEXT NOT NULL,
  hash        BLOB NOT NULL,
  last4       TEXT NOT NULL,
  server_glob TEXT NOT NULL,
  rekey       TEXT NOT NULL,
  tags        TEXT NOT NULL,
  tier        TEXT NOT NULL,
  uses        BIGINT NOT NULL,
  max_uses    BIGINT NOT NULL,
  failures    BIGINT NOT NULL,
  revoked     BOOLEAN NOT NULL,
  created_at  BIGINT NOT NULL,
  expires_at  BIGINT NOT NULL
);

CREATE TABLE runs (
  id            TEXT PRIMARY KEY,
  sync          TEXT NOT NULL,
  trigger_kind  TEXT NOT NULL,
  actor         TEXT NOT NULL,
  source_commit TEXT NOT NULL,
  plan          BLOB NOT NULL,
  approved      TEXT NOT NULL,
  status        TEXT NOT NULL,
  started_at    BIGINT NOT NULL,
  ended_at      BIGINT NOT NULL
);
CREATE INDEX runs_running ON runs (id) WHERE status = 'running';

CREATE TABLE ops (
  seq          INTEGER PRIMARY KEY AUTOINCREMENT,
  run          TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
  id           TEXT NOT NULL,
  order_id     TEXT NOT NULL,
  kind         TEXT NOT NULL,
  stack        TEXT NOT NULL,
  server       TEXT NOT NULL,
  project      TEXT NOT NULL,
  release_sum  TEXT NOT NULL,
  stack_after  TEXT NOT NULL,
  causes       TEXT NOT NULL,
  status       TEXT NOT NULL,
  reason       TEXT NOT NULL,
  outcome      BLOB NOT NULL,
  started_at   BIGINT NOT NULL,
  ended_at     BIGINT NOT NULL,
  UNIQUE (run, id)
);
CREATE INDEX ops_by_stack ON ops (stack, seq);
CREATE INDEX ops_by_order ON ops (order_id);

CREATE TABLE inventory (
  stack       TEXT NOT NULL,
  server      TEXT NOT NULL,
  project     TEXT NOT NULL,
  stack_after TEXT NOT NULL,
  sync        TEXT NOT NULL,
  PRIMARY KEY (stack, server)
);
CREATE INDEX inventory_by_sync ON inventory (sync);

CREATE TABLE events (
  id     INTEGER PRIMARY KEY AUTOINCREMENT,
  at     BIGINT NOT NULL,
  kind   TEXT NOT NULL,
  sync   TEXT NOT NULL,
  stack  TEXT NOT NULL,
  server TEXT NOT NULL,
  actor  TEXT NOT NULL,
  text   TEXT NOT NULL
);

CREATE TABLE webhooks_seen (
  hash TEXT PRIMARY KEY,
  at   BIGINT NOT NULL
);
CREATE INDEX webhooks_seen_by_time ON webhooks_seen (at);
