-- Runs of procedures, and of single executions, with what each step did.
CREATE TABLE procedure_runs (
  id           TEXT PRIMARY KEY,
  procedure    TEXT NOT NULL,
  parent       TEXT NOT NULL,
  trigger_kind TEXT NOT NULL,
  actor        TEXT NOT NULL,
  status       TEXT NOT NULL,
  reason       TEXT NOT NULL,
  stages       TEXT NOT NULL,
  created_at   BIGINT NOT NULL,
  started_at   BIGINT NOT NULL,
  ended_at     BIGINT NOT NULL
);
CREATE INDEX procedure_runs_by_name ON procedure_runs (procedure, id);
CREATE INDEX procedure_runs_open ON procedure_runs (id) WHERE ended_at = 0;

CREATE TABLE procedure_steps (
  run        TEXT NOT NULL REFERENCES procedure_runs (id) ON DELETE CASCADE,
  number     BIGINT NOT NULL,
  stage      BIGINT NOT NULL,
  execution  TEXT NOT NULL,
  target     TEXT NOT NULL,
  stack      TEXT NOT NULL,
  server     TEXT NOT NULL,
  status     TEXT NOT NULL,
  reason     TEXT NOT NULL,
  text       TEXT NOT NULL,
  made_run   TEXT NOT NULL,
  log        TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  ended_at   BIGINT NOT NULL,
  PRIMARY KEY (run, number)
);

-- Alerts. Of one key at most one is open at a time: what is the matter is told once.
CREATE TABLE alerts (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  dedup       TEXT NOT NULL,
  kind        TEXT NOT NULL,
  level       TEXT NOT NULL,
  target_kind TEXT NOT NULL,
  target      TEXT NOT NULL,
  server      TEXT NOT NULL,
  text        TEXT NOT NULL,
  data        TEXT NOT NULL,
  opened_at   BIGINT NOT NULL,
  resolved_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX alerts_open ON alerts (dedup) WHERE resolved_at = 0;
