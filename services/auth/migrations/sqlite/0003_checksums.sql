-- Over all other columns of the row; computed by the program, for the rows that are there as well.
ALTER TABLE meta            ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cards           ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE unknown_numbers ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts        ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE terminals       ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions        ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE revocations     ADD COLUMN checksum INTEGER NOT NULL DEFAULT 0;

-- What operators ordered, for ever: a repeat is answered as the order was, and changes nothing. `kind`: 1 block a card,
-- 2 unblock it, 3 forget a machine's start, 4 forget all starts, 5 release a machine's name. `target` is the card's
-- number key or the machine's name. `affected` counts cards or machines: 0 when there was none.
CREATE TABLE orders (
    order_id BLOB    PRIMARY KEY CHECK (length(order_id) = 16),
    kind     INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 5),
    target   BLOB    NOT NULL,
    affected INTEGER NOT NULL CHECK (affected >= 0),
    time     INTEGER NOT NULL,
    checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
