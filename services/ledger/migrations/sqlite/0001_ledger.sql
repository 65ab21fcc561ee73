-- The ledger, schema version 1. What each table is for is explained in src/storage/mod.rs.

-- Clustered on the transaction's id: ids minted later are greater, so new steps go to one place.
CREATE TABLE step (
    transaction_id BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (transaction_id, ordinal)
) STRICT, WITHOUT ROWID;

-- The commit order. `steps` is transaction id (16 bytes) and ordinal (1 byte) of each step, in order.
CREATE TABLE batch (
    first_sequence INTEGER PRIMARY KEY,
    commit_time INTEGER NOT NULL,
    hash BLOB NOT NULL,
    steps BLOB NOT NULL
) STRICT;

-- One row: the end of the chain. Every commit compares and sets it.
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL,
    commit_time INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;

-- One row: the head that `account` and `open_hold` belong to.
CREATE TABLE checkpoint (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    sequence INTEGER NOT NULL,
    commit_time INTEGER NOT NULL,
    hash BLOB NOT NULL,
    newest_id BLOB NOT NULL
) STRICT;

CREATE TABLE account (
    account_id BLOB PRIMARY KEY,
    kind INTEGER NOT NULL,
    currency TEXT NOT NULL,
    number TEXT NOT NULL,
    holder_name TEXT NOT NULL,
    overdraft_limit INTEGER NOT NULL,
    daily_withdrawal_limit INTEGER NOT NULL,
    create_time INTEGER NOT NULL,
    debits_posted INTEGER NOT NULL,
    credits_posted INTEGER NOT NULL,
    debits_pending INTEGER NOT NULL,
    credits_pending INTEGER NOT NULL,
    withdrawn_day INTEGER NOT NULL,
    withdrawn_amount INTEGER NOT NULL,
    -- Transaction id (16 bytes), ordinal (1), leg (1: 0 is the debit, then the credits); empty when there is none.
    newest_entry BLOB NOT NULL,
    -- The first 8 bytes of the SHA-256 of all that stands before: totals are answered without a replay.
    checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE open_hold (
    transaction_id BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

INSERT INTO head VALUES (1, 0, 0, zeroblob(32));
INSERT INTO checkpoint VALUES (1, 0, 0, zeroblob(32), zeroblob(16));
