-- What people decided about resources: hands off, until a time or until they say otherwise.
CREATE TABLE suspensions (
  kind     TEXT NOT NULL,
  name     TEXT NOT NULL,
  server   TEXT NOT NULL,
  until_at BIGINT NOT NULL,
  reason   TEXT NOT NULL,
  actor    TEXT NOT NULL,
  at       BIGINT NOT NULL,
  PRIMARY KEY (kind, name, server)
);

-- Releases that are held back, and what runs in their place.
CREATE TABLE holds (
  stack    TEXT NOT NULL,
  server   TEXT NOT NULL,
  sync     TEXT NOT NULL,
  hold     TEXT NOT NULL,
  release  TEXT NOT NULL,
  at       BIGINT NOT NULL,
  PRIMARY KEY (stack, server)
);

-- Rollouts of stacks on several servers, the last of each stack.
CREATE TABLE rollouts (
  sync     TEXT NOT NULL,
  stack    TEXT NOT NULL,
  rollout  TEXT NOT NULL,
  before   TEXT NOT NULL,
  at       BIGINT NOT NULL,
  PRIMARY KEY (sync, stack)
);

-- The last releases that were deployed with success, newest last.
CREATE TABLE releases (
  seq         INTEGER PRIMARY KEY AUTOINCREMENT,
  stack       TEXT NOT NULL,
  server      TEXT NOT NULL,
  release_sum TEXT NOT NULL,
  release     TEXT NOT NULL,
  at          BIGINT NOT NULL
);
CREATE UNIQUE INDEX releases_by_sum ON releases (stack, server, release_sum);
