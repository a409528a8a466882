-- Records of the history hang together by hashes: see package core/audit.
ALTER TABLE events ADD COLUMN recorded_at   BIGINT NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN cause         BIGINT NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN run           TEXT   NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN op            TEXT   NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN source_commit TEXT   NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN status        TEXT   NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN duration_ms   BIGINT NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN remote        TEXT   NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN listener      TEXT   NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN data          TEXT   NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN hash          BLOB   NOT NULL DEFAULT x'';

-- What other filters look at comes last in an index, so that rows that do not match are not read.
CREATE INDEX events_by_time   ON events (at);
CREATE INDEX events_by_kind   ON events (kind, at);
CREATE INDEX events_by_stack  ON events (stack, at)  WHERE stack <> '';
CREATE INDEX events_by_server ON events (server, at, kind, sync, actor) WHERE server <> '';
CREATE INDEX events_by_sync   ON events (sync, at, kind) WHERE sync <> '';
CREATE INDEX events_by_actor  ON events (actor, at, kind, sync) WHERE actor <> '';
CREATE INDEX events_by_run    ON events (run, id)    WHERE run <> '';
CREATE INDEX events_by_cause  ON events (cause)      WHERE cause <> 0;

-- What is left of a deleted record, so that the chain still holds.
CREATE TABLE event_stubs (
  id          BIGINT PRIMARY KEY,
  kind        TEXT   NOT NULL,
  recorded_at BIGINT NOT NULL,
  rest        BLOB   NOT NULL
);

-- The two ends of the chain: the last record that is gone for good, and the newest. The row
-- is there once the records of before have their hashes.
CREATE TABLE event_chain (
  one       INTEGER PRIMARY KEY CHECK (one = 1),
  base_id   BIGINT NOT NULL,
  base_hash BLOB   NOT NULL,
  head_id   BIGINT NOT NULL,
  head_hash BLOB   NOT NULL
);

-- How a stack was, each time that changed. The row before a time tells how it was then.
CREATE TABLE stack_states (
  stack         TEXT   NOT NULL,
  server        TEXT   NOT NULL,
  at            BIGINT NOT NULL,
  sync          TEXT   NOT NULL,
  sync_state    TEXT   NOT NULL,
  health        TEXT   NOT NULL,
  source_commit TEXT   NOT NULL,
  release_sum   TEXT   NOT NULL,
  text          TEXT   NOT NULL,
  PRIMARY KEY (stack, server, at)
) WITHOUT ROWID;
CREATE INDEX stack_states_by_sync ON stack_states (sync, at);

-- What was said while an op was done, in parts.
CREATE TABLE op_logs (
  run   TEXT   NOT NULL,
  op    TEXT   NOT NULL,
  seq   BIGINT NOT NULL,
  at    BIGINT NOT NULL,
  lines BLOB   NOT NULL,
  PRIMARY KEY (run, op, seq)
) WITHOUT ROWID;
CREATE INDEX op_logs_by_time ON op_logs (at);
