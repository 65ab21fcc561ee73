-- The journal as the version before schema 2 made it.
CREATE TABLE terminal (only INTEGER PRIMARY KEY CHECK (only = 1), terminal_id TEXT NOT NULL) STRICT;
CREATE TABLE transactions (id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL,
    currency TEXT NOT NULL, amount_minor_units INTEGER NOT NULL, card_tag BLOB NOT NULL,
    card_last_four TEXT NOT NULL, to_account TEXT, trace_id TEXT NOT NULL,
    authorization BLOB NOT NULL DEFAULT x'', dispense_id TEXT, presented_minor_units INTEGER,
    ending TEXT, reason TEXT, balance_minor_units INTEGER, available_minor_units INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX open_transactions ON transactions (id) WHERE state NOT IN ('DONE', 'VOIDED');
CREATE TABLE steps (sequence INTEGER PRIMARY KEY,
    transaction_id TEXT NOT NULL REFERENCES transactions (id), event TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT, time_nanos INTEGER NOT NULL) STRICT;
PRAGMA user_version = 1; PRAGMA application_id = 1096043882;
