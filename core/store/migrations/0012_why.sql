-- The run of a procedure that asked for a change of keys: what comes of it is told later, by
-- whoever hears of it.
ALTER TABLE rotations ADD COLUMN run TEXT NOT NULL DEFAULT '';
