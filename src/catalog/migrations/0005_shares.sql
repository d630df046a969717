-- What of a project its organisation shows to another: whole months of it.

CREATE TABLE shares (
    id          TEXT NOT NULL PRIMARY KEY,
    project     TEXT NOT NULL REFERENCES projects (slug),
    recipient   TEXT NOT NULL REFERENCES organisations (slug),
    -- YYYY-MM, in UTC as the lake's partitions are, both within the share; null is open.
    months_from TEXT CHECK (length(months_from) = 7),
    months_to   TEXT CHECK (length(months_to) = 7),
    detail      TEXT NOT NULL,
    note        TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    -- The prefix of the key that made it; null where the command line did.
    created_by  TEXT,
    -- From then on nothing is shared by it.
    expires_at  INTEGER,
    revoked_at  INTEGER,
    CHECK (months_from <= months_to)
) STRICT, WITHOUT ROWID;

CREATE INDEX shares_by_project ON shares (project, id);
CREATE INDEX shares_by_recipient ON shares (recipient, project);
