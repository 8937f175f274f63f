-- The ledger, outbox and dead letters of one source.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- Who may write, until when (in seconds since the epoch). One row; the fence rises whenever it changes hands.
CREATE TABLE lease (
    fence    INTEGER PRIMARY KEY,
    owner    TEXT,                        -- for people; NULL: nobody has it
    machine  TEXT,                        -- whose operating system's lock the owner holds
    has_lock INTEGER NOT NULL DEFAULT 0,
    ends_at  REAL
);
INSERT INTO lease (fence) VALUES (0);

CREATE TABLE document (
    row         INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice: a run keeps what it saw as one bit a row
    id          TEXT NOT NULL UNIQUE,
    origin      TEXT NOT NULL,
    fingerprint TEXT,
    recipe      TEXT NOT NULL,
    has_parts   INTEGER NOT NULL,
    skipped     TEXT
);
CREATE INDEX document_parts ON document (origin) WHERE origin <> id;
CREATE INDEX document_fingerprint ON document (fingerprint) WHERE fingerprint IS NOT NULL;

-- By document, since keys are digests: what one batch stores then lies together, not each record on a page of its own.
-- A key names one record only, but for one of no document that a document claims: see `adopt` and `settle`.
CREATE TABLE record (
    document         TEXT NOT NULL,
    key              TEXT NOT NULL,
    namespace        TEXT NOT NULL,
    digest           TEXT NOT NULL,
    position         REAL NOT NULL,
    memory_record_id TEXT NOT NULL,
    obsolete         INTEGER NOT NULL DEFAULT 0,
    edited_from      TEXT,  -- the digest that the document asks for, where a person's edit is stored in its place
    expiry_days      INTEGER,             -- that the memory was told; NULL: none, as what follows; -1: nobody knows
    lapses_at        REAL,                -- not before that, in seconds since the epoch
    renew_at         REAL,
    PRIMARY KEY (document, key)
) WITHOUT ROWID;
CREATE INDEX record_obsolete ON record (document, key) WHERE obsolete = 1;
CREATE INDEX record_renewal ON record (renew_at, document, key) WHERE renew_at IS NOT NULL;

CREATE TABLE outbox (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    token     TEXT NOT NULL UNIQUE,
    operation TEXT NOT NULL,
    entries   BLOB NOT NULL,
    body      BLOB NOT NULL,
    saved_at  REAL NOT NULL
);

-- At most one unsettled operation per key: a second one is refused by the primary key.
CREATE TABLE outbox_key (
    document TEXT NOT NULL,
    key      TEXT NOT NULL,
    PRIMARY KEY (document, key)
) WITHOUT ROWID;

CREATE TABLE dead_letter (
    id              TEXT PRIMARY KEY,
    document        TEXT NOT NULL,
    key             TEXT,
    stage           TEXT NOT NULL,
    code            TEXT NOT NULL,
    first_failed_at REAL NOT NULL,
    letter          BLOB NOT NULL,
    dropped_at      REAL  -- by a person, who gave it up for good; in seconds since the epoch
) WITHOUT ROWID;
CREATE INDEX dead_letter_document ON dead_letter (document);
CREATE INDEX dead_letter_key ON dead_letter (key);

CREATE TABLE run (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    verb       TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at   REAL,
    report     TEXT
);
