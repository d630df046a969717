-- Who sees what: every project belongs to an organisation, and every key but an administrator's.

CREATE TABLE organisations (
    slug       TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What was there before belongs to one organisation, which a fresh server has too.
INSERT INTO organisations SELECT 'main', 'Main', at, at FROM (SELECT unixepoch() * 1000000 AS at);

-- SQLite adds no column that must not be null and points to another table. So the tables are made anew, under the same
-- names, which is how those that point to them find them again; until then the references hang in the air.
PRAGMA defer_foreign_keys = ON;

CREATE TABLE projects_before AS SELECT * FROM projects;
DROP TABLE projects;
CREATE TABLE projects (
    slug         TEXT NOT NULL PRIMARY KEY,
    organisation TEXT NOT NULL REFERENCES organisations (slug),
    name         TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('mini_grid', 'shs')),
    currency     TEXT NOT NULL CHECK (length(currency) = 3),
    time_zone    TEXT NOT NULL,
    country      TEXT NOT NULL CHECK (length(country) = 2),
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO projects (slug, organisation, name, kind, currency, time_zone, country, created_at, updated_at)
SELECT slug, 'main', name, kind, currency, time_zone, country, created_at, updated_at FROM projects_before;
DROP TABLE projects_before;

CREATE INDEX projects_by_organisation ON projects (organisation, slug);

CREATE TABLE api_keys_before AS SELECT * FROM api_keys;
DROP TABLE api_keys;
CREATE TABLE api_keys (
    prefix       TEXT NOT NULL PRIMARY KEY,
    name         TEXT NOT NULL,
    role         TEXT NOT NULL CHECK (role IN ('admin', 'manager', 'analyst', 'viewer', 'uploader')),
    -- An administrator's key is of none.
    organisation TEXT REFERENCES organisations (slug),
    key_sha256   BLOB NOT NULL CHECK (length(key_sha256) = 32),
    created_at   INTEGER NOT NULL,
    -- From then on it does not hold.
    expires_at   INTEGER,
    last_used_at INTEGER,
    revoked_at   INTEGER,
    -- The key that this one took the place of.
    rotated_from TEXT REFERENCES api_keys (prefix),
    CHECK ((role = 'admin') = (organisation IS NULL))
) STRICT, WITHOUT ROWID;
INSERT INTO api_keys (prefix, name, role, key_sha256, created_at, last_used_at, revoked_at)
SELECT prefix, name, role, key_sha256, created_at, last_used_at, revoked_at FROM api_keys_before;
DROP TABLE api_keys_before;

-- A key is rotated once.
CREATE UNIQUE INDEX api_keys_by_rotated_from ON api_keys (rotated_from) WHERE rotated_from IS NOT NULL;
CREATE INDEX api_keys_by_organisation ON api_keys (organisation, created_at, prefix);
