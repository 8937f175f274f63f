"""How an older state becomes one of this version: each step in one transaction, after a copy of the file.

`schema.sql` is the newest schema; a step here leads from the one before. Schemas that were once released are kept as
fixtures of the tests.
"""

import os
import sqlite3
from pathlib import Path

# By the version that a step leads to. Whole statements, each ended by a semicolon at the end of a line.
STEPS: dict[int, str] = {
    2: """
CREATE TABLE lease (
    fence    INTEGER PRIMARY KEY,
    owner    TEXT,
    machine  TEXT,
    has_lock INTEGER NOT NULL DEFAULT 0,
    ends_at  REAL
);
INSERT INTO lease (fence) VALUES (0);
INSERT INTO meta (name, value) VALUES ('acquainted_at', '0');
""",
    3: """
CREATE TABLE record_by_document (
    document         TEXT NOT NULL,
    key              TEXT NOT NULL,
    namespace        TEXT NOT NULL,
    digest           TEXT NOT NULL,
    position         REAL NOT NULL,
    memory_record_id TEXT NOT NULL,
    obsolete         INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (document, key)
) WITHOUT ROWID;
INSERT INTO record_by_document SELECT document, key, namespace, digest, position, memory_record_id, obsolete
 FROM record ORDER BY document, key;
DROP TABLE record;
ALTER TABLE record_by_document RENAME TO record;
CREATE INDEX record_obsolete ON record (document, key) WHERE obsolete = 1;
CREATE TABLE outbox_key_by_document (
    document TEXT NOT NULL,
    key      TEXT NOT NULL,
    PRIMARY KEY (document, key)
) WITHOUT ROWID;
INSERT INTO outbox_key_by_document SELECT document, key FROM outbox_key;
DROP TABLE outbox_key;
ALTER TABLE outbox_key_by_document RENAME TO outbox_key;
""",
    4: """
CREATE INDEX document_fingerprint ON document (fingerprint) WHERE fingerprint IS NOT NULL;
""",
    5: """
ALTER TABLE record ADD COLUMN edited_from TEXT;
ALTER TABLE dead_letter ADD COLUMN dropped_at REAL;
""",
    6: """
ALTER TABLE record ADD COLUMN expiry_days INTEGER;
ALTER TABLE record ADD COLUMN lapses_at REAL;
ALTER TABLE record ADD COLUMN renew_at REAL;
CREATE INDEX record_renewal ON record (renew_at, document, key) WHERE renew_at IS NOT NULL;
""",
}


def migrate(connection: sqlite3.Connection, found: int, newest: int) -> None:
    """Bring a state of schema `found` to schema `newest` in one transaction: all steps or none."""
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for version in range(found + 1, newest + 1):
            for statement in STEPS[version].strip().split(";\n"):
                connection.execute(statement)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(newest),))


def back_up(connection: sqlite3.Connection, path: Path, found: int) -> Path:
    """Copy the state as it is to a file beside it, readable by its owner only, and return that file's path.

    It is whole once it has its name; a copy that was made before is replaced.
    """
    copy = path.with_name(f"{path.name}.schema-{found}")
    unfinished = copy.with_name(f"{copy.name}.new")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    into = sqlite3.connect(unfinished)
    try:
        with into:
            connection.backup(into)
    finally:
        into.close()
    descriptor = os.open(unfinished, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    unfinished.replace(copy)
    return copy
