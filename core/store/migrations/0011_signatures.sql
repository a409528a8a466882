-- What commits of a sync must prove, and the last one that did.
ALTER TABLE syncs ADD COLUMN signatures TEXT NOT NULL DEFAULT '{}';
ALTER TABLE syncs ADD COLUMN believed TEXT NOT NULL DEFAULT '';
