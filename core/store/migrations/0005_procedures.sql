-- What a run was told, which step of its parent it is, and what its end is told to.
ALTER TABLE procedure_runs ADD COLUMN inputs TEXT NOT NULL DEFAULT '{}';
ALTER TABLE procedure_runs ADD COLUMN parent_step BIGINT NOT NULL DEFAULT 0;
ALTER TABLE procedure_runs ADD COLUMN failure_alert BOOLEAN NOT NULL DEFAULT FALSE;

ALTER TABLE procedure_steps ADD COLUMN attempts BIGINT NOT NULL DEFAULT 1;
ALTER TABLE procedure_steps ADD COLUMN may_fail BOOLEAN NOT NULL DEFAULT FALSE;
