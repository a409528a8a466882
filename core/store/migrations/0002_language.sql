ALTER TABLE variables ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE variables ADD COLUMN scope TEXT NOT NULL DEFAULT '{}';

-- The kind of resource a stack was declared as; empty means "stack".
ALTER TABLE inventory ADD COLUMN kind TEXT NOT NULL DEFAULT '';

-- A sync that another one declares, and as what; both empty for one added by hand.
ALTER TABLE syncs ADD COLUMN declared_by TEXT NOT NULL DEFAULT '';
ALTER TABLE syncs ADD COLUMN spec TEXT NOT NULL DEFAULT '{}';

-- Accounts at Git hosts and image registries.
CREATE TABLE accounts (
  kind       TEXT NOT NULL,
  domain     TEXT NOT NULL,
  username   TEXT NOT NULL,
  has_token  BOOLEAN NOT NULL,
  has_key    BOOLEAN NOT NULL,
  sealed     BLOB NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (kind, domain, username)
);

-- What the syncs' applied commits declare. shared is what other syncs see of it, secrets is
-- sealed.
CREATE TABLE resources (
  kind           TEXT NOT NULL,
  name           TEXT NOT NULL,
  sync           TEXT NOT NULL,
  record         TEXT NOT NULL,
  shared         TEXT NOT NULL,
  secrets_sealed BLOB NOT NULL,
  source_commit  TEXT NOT NULL,
  updated_at     BIGINT NOT NULL,
  PRIMARY KEY (kind, name)
);
CREATE INDEX resources_by_sync ON resources (sync);
