-- How far the schedule of each procedure has been followed: every time up to mark is dealt with.
CREATE TABLE schedules (
  procedure  TEXT PRIMARY KEY,
  expression TEXT NOT NULL,
  mark       BIGINT NOT NULL,
  run        TEXT NOT NULL,
  due        BIGINT NOT NULL,
  skipped    BIGINT NOT NULL
);

-- Procedures that core has of its own, in the form of a resource file. They are there from
-- the start and are not put back once removed; one of the same name in Git comes first.
CREATE TABLE core_procedures (
  name    TEXT PRIMARY KEY,
  toml    TEXT NOT NULL,
  enabled BOOLEAN NOT NULL
);
INSERT INTO core_procedures (name, toml, enabled) VALUES
('Backup Core Database', '[[procedure]]
name = "Backup Core Database"
description = "Backs up the database of core."
tags = ["system"]
config.schedule = "Every day at 01:00"

[[procedure.config.stage]]
name = "Stage 1"
enabled = true
executions = [
  { execution.type = "BackupCoreDatabase", execution.params = {}, enabled = true }
]
', TRUE),
('Global Auto Update', '[[procedure]]
name = "Global Auto Update"
description = "Looks for newer images, and updates what asks for it."
tags = ["system"]
config.schedule = "Every day at 03:00"

[[procedure.config.stage]]
name = "Stage 1"
enabled = true
executions = [
  { execution.type = "GlobalAutoUpdate", execution.params = {}, enabled = true }
]
', TRUE),
('Rotate Server Keys', '[[procedure]]
name = "Rotate Server Keys"
description = "Rotates the keys of all servers that are connected."
tags = ["system"]
config.schedule = "Every day at 06:00"

[[procedure.config.stage]]
name = "Stage 1"
enabled = true
executions = [
  { execution.type = "RotateAllServerKeys", execution.params = {}, enabled = true }
]
', TRUE);
