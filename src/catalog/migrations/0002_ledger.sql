-- The ledger: what the lake is made of, written before the lake's own log says it. See ARCHITECTURE.md.
-- A row's seal is a hash of its other columns, so that a row that changed by itself is known.

CREATE TABLE lake_versions (
    version      INTEGER NOT NULL PRIMARY KEY,
    change_id    TEXT    NOT NULL UNIQUE,
    -- The log's entry, zstd, and the SHA-256 of the entry itself.
    entry        BLOB    NOT NULL,
    entry_sha256 BLOB    NOT NULL CHECK (length(entry_sha256) = 32),
    -- Active files and their rows after this version.
    files        INTEGER NOT NULL,
    rows         INTEGER NOT NULL,
    written_at   INTEGER NOT NULL,
    seal         INTEGER NOT NULL
) STRICT;

CREATE TABLE lake_files (
    path       TEXT    NOT NULL PRIMARY KEY,
    project    TEXT    NOT NULL,
    month      TEXT    NOT NULL,
    bytes      INTEGER NOT NULL,
    rows       INTEGER NOT NULL,
    sha256     BLOB    NOT NULL,
    added_in   INTEGER NOT NULL,
    removed_in INTEGER,
    removed_at INTEGER,
    seal       INTEGER NOT NULL,
    CHECK ((removed_in IS NULL) = (removed_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX lake_files_active ON lake_files (project, month) WHERE removed_in IS NULL;
CREATE INDEX lake_files_removed ON lake_files (removed_at) WHERE removed_in IS NOT NULL;

-- Uploads that no version of the ledger names, and the version that brought their rows back.
CREATE TABLE lake_recovered (
    upload_id TEXT    NOT NULL PRIMARY KEY REFERENCES uploads (id),
    version   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest checkpoint of the lake's log, and the bytes of the file that points to it.
CREATE TABLE lake_checkpoint (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    version  INTEGER NOT NULL,
    sha256   BLOB    NOT NULL,
    pointer  BLOB    NOT NULL
) STRICT;

-- The staged files of uploads: all good rows of an upload, a file or more for each project and month.
CREATE TABLE staged_files (
    upload_id TEXT    NOT NULL REFERENCES uploads (id),
    project   TEXT    NOT NULL,
    month     TEXT    NOT NULL,
    -- Below the upload's folder.
    path      TEXT    NOT NULL,
    bytes     INTEGER NOT NULL,
    rows      INTEGER NOT NULL,
    sha256    BLOB    NOT NULL,
    seal      INTEGER NOT NULL,
    PRIMARY KEY (upload_id, path)
) STRICT, WITHOUT ROWID;
