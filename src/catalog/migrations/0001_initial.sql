-- Times are microseconds since the epoch, UTC.

CREATE TABLE projects (
    slug       TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('mini_grid', 'shs')),
    currency   TEXT NOT NULL CHECK (length(currency) = 3),
    time_zone  TEXT NOT NULL,
    country    TEXT NOT NULL CHECK (length(country) = 2),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    prefix       TEXT NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL,
    role         TEXT NOT NULL CHECK (role IN ('admin')),
    key_sha256   BLOB NOT NULL CHECK (length(key_sha256) = 32),
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE uploads (
    id            TEXT NOT NULL PRIMARY KEY,
    dataset_name  TEXT NOT NULL,
    dataset_type  TEXT NOT NULL,
    data_provider TEXT NOT NULL,
    file_name     TEXT NOT NULL,
    on_error      TEXT NOT NULL CHECK (on_error IN ('reject_file', 'skip_rows')),
    status        TEXT NOT NULL CHECK (status IN ('receiving', 'committing', 'committed', 'rejected', 'failed',
                                                  'deleting', 'deleted', 'restoring', 'purged')),
    sha256        TEXT NOT NULL,
    bytes         INTEGER NOT NULL,
    received_at   INTEGER NOT NULL,
    committed_at  INTEGER,
    lake_version  INTEGER,
    report        TEXT NOT NULL,
    key_prefix    TEXT NOT NULL,
    -- Since when it is deleted, or being deleted.
    deleted_at    INTEGER,
    -- The change of the lake that is under way with it.
    change_id     TEXT,
    CHECK (status NOT IN ('committed', 'deleting', 'deleted', 'restoring')
           OR (committed_at IS NOT NULL AND lake_version IS NOT NULL)),
    CHECK (status NOT IN ('deleting', 'deleted', 'restoring') OR deleted_at IS NOT NULL),
    CHECK ((status IN ('deleting', 'restoring')) = (change_id IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX uploads_by_sha256 ON uploads (sha256);
CREATE INDEX uploads_by_status ON uploads (status, id);
CREATE INDEX uploads_by_change ON uploads (change_id) WHERE change_id IS NOT NULL;

-- Keys that requests to upload came with, and the upload that was the answer. A key counts for the API key that sent it.
CREATE TABLE idempotency_keys (
    key_prefix     TEXT NOT NULL,
    key            TEXT NOT NULL,
    upload_id      TEXT NOT NULL REFERENCES uploads (id),
    -- Of the file and of what was said about it.
    request_sha256 TEXT NOT NULL,
    -- Whether the answer was an upload that had come before.
    repeated       INTEGER NOT NULL CHECK (repeated IN (0, 1)),
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (key_prefix, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_upload ON idempotency_keys (upload_id, repeated, created_at);

-- Which projects an upload has rows for: one today, several later.
CREATE TABLE upload_projects (
    project   TEXT NOT NULL REFERENCES projects (slug),
    upload_id TEXT NOT NULL REFERENCES uploads (id),
    PRIMARY KEY (project, upload_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX upload_projects_by_upload ON upload_projects (upload_id, project);
