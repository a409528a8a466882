-- A server's agent has a key in use, for a time another one that will take its place, and for
-- a day the one whose place was taken. Servers no longer carry the key themselves.
ALTER TABLE servers RENAME TO servers_before;
CREATE TABLE servers (
  name         TEXT PRIMARY KEY,
  tags         TEXT NOT NULL,
  tier         TEXT NOT NULL,
  pending      BOOLEAN NOT NULL,
  disabled     BOOLEAN NOT NULL,
  epoch        BIGINT NOT NULL,
  onboarded_at BIGINT NOT NULL,
  -- The fingerprint of the newest key of core that the agent is known to pin.
  core_key     TEXT NOT NULL
);
INSERT INTO servers (name, tags, tier, pending, disabled, epoch, onboarded_at, core_key)
  SELECT name, tags, tier, pending, FALSE, epoch, onboarded_at, '' FROM servers_before;

CREATE TABLE keys (
  public_key TEXT PRIMARY KEY,
  server     TEXT NOT NULL REFERENCES servers (name) ON DELETE CASCADE,
  state      TEXT NOT NULL CHECK (state IN ('current', 'next', 'retired')),
  since      BIGINT NOT NULL,
  UNIQUE (server, state)
);
INSERT INTO keys (public_key, server, state, since) SELECT public_key, name, 'current', onboarded_at FROM servers_before;

DROP TABLE servers_before;
CREATE UNIQUE INDEX servers_by_folded_name ON servers (lower(name));

-- The change of a server's key that is under way; one that is older than ten minutes is not.
CREATE TABLE rotations (
  server     TEXT PRIMARY KEY REFERENCES servers (name) ON DELETE CASCADE,
  id         TEXT NOT NULL,
  emergency  BOOLEAN NOT NULL,
  actor      TEXT NOT NULL,
  started_at BIGINT NOT NULL
);
