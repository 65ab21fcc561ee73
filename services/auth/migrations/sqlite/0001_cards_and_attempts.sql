-- Times are nanoseconds since the Unix epoch; keys, ids, hashes and tags are bytes.

-- What belongs to the database as a whole, such as the canary that tells a wrong pepper.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cards (
    number_key      BLOB    PRIMARY KEY CHECK (length(number_key) = 32),
    card_id         BLOB    NOT NULL UNIQUE CHECK (length(card_id) = 16),
    account_id      BLOB    NOT NULL CHECK (length(account_id) = 16),
    last_four       BLOB    NOT NULL CHECK (length(last_four) = 4),
    pin_salt        BLOB    CHECK (length(pin_salt) = 16),
    pin_hash        BLOB    CHECK (length(pin_hash) = 32),
    hash_memory_kib INTEGER,
    hash_passes     INTEGER,
    hash_lanes      INTEGER,
    wrong_pins      INTEGER NOT NULL CHECK (wrong_pins BETWEEN 0 AND 3),
    blocked         INTEGER NOT NULL CHECK (blocked IN (0, 1)),
    session_clock   INTEGER NOT NULL,
    CHECK ((pin_salt IS NULL) = (pin_hash IS NULL))
) STRICT, WITHOUT ROWID;

-- Numbers that are nobody's card, counted and locked like cards; the oldest make room for new ones.
CREATE TABLE unknown_numbers (
    number_key BLOB    PRIMARY KEY CHECK (length(number_key) = 32),
    wrong_pins INTEGER NOT NULL CHECK (wrong_pins BETWEEN 0 AND 3),
    touched    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX unknown_numbers_by_age ON unknown_numbers (touched);

-- Erased after 60 s. `outcome`: 1 opened, 2 changed, 3 wrong, 4 locked, 5 blocked; only 1 has a session.
CREATE TABLE attempts (
    number_key  BLOB    NOT NULL CHECK (length(number_key) = 32),
    atm_id      TEXT    NOT NULL,
    attempt_id  BLOB    NOT NULL CHECK (length(attempt_id) = 16),
    tag         BLOB    NOT NULL CHECK (length(tag) = 32),
    time        INTEGER NOT NULL,
    outcome     INTEGER NOT NULL CHECK (outcome BETWEEN 1 AND 5),
    session_id  BLOB    CHECK (length(session_id) = 16),
    card_id     BLOB    CHECK (length(card_id) = 16),
    account_id  BLOB    CHECK (length(account_id) = 16),
    terminal_id BLOB    CHECK (length(terminal_id) = 32),
    issue_time  INTEGER,
    expire_time INTEGER,
    PRIMARY KEY (number_key, atm_id, attempt_id, tag),
    CHECK ((outcome = 1) = (session_id IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_by_time ON attempts (time);

-- Which terminal's key a machine's name belongs to.
CREATE TABLE terminals (
    atm_id      TEXT PRIMARY KEY,
    terminal_id BLOB NOT NULL CHECK (length(terminal_id) = 32)
) STRICT, WITHOUT ROWID;

-- When each session ends by itself, so that its revocation is kept for as long as it matters.
CREATE TABLE sessions (
    session_id  BLOB    PRIMARY KEY CHECK (length(session_id) = 16),
    expire_time INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_time ON sessions (expire_time);

-- `kind`: 1 one session, 2 all sessions of a card up to revoke_time.
CREATE TABLE revocations (
    kind           INTEGER NOT NULL CHECK (kind IN (1, 2)),
    target         BLOB    NOT NULL CHECK (length(target) = 16),
    revoke_time    INTEGER NOT NULL,
    relevant_until INTEGER NOT NULL,
    PRIMARY KEY (kind, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_by_time ON revocations (relevant_until);
