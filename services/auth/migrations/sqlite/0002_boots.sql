-- The start that a machine signed on with last; another one has to follow it. See docs/adr/0008.
ALTER TABLE terminals ADD COLUMN boot_epoch INTEGER CHECK (boot_epoch >= 1);
ALTER TABLE terminals ADD COLUMN boot_id BLOB CHECK (length(boot_id) = 16)
    CHECK ((boot_id IS NULL) = (boot_epoch IS NULL));

-- Where a session was opened, so that a new start of that machine can end it.
ALTER TABLE sessions ADD COLUMN atm_id TEXT;
CREATE INDEX sessions_by_machine ON sessions (atm_id, expire_time);
