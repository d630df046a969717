-- The audit log: who did what, and what came of it. Each entry's hash covers the hash of the entry before it, so that an entry
-- that was altered, removed, inserted or moved is known. See ARCHITECTURE.md.

-- The sets of projects that entries concern, each once: a dashboard asks for the same ones again and again.
CREATE TABLE audit_scopes (
    id       INTEGER NOT NULL PRIMARY KEY,
    -- Of `projects`; it is what an entry's hash covers.
    sha256   BLOB    NOT NULL UNIQUE CHECK (length(sha256) = 32),
    -- A JSON array of slugs, in their order.
    projects TEXT    NOT NULL
) STRICT;

-- The same, to find the sets that have a project.
CREATE TABLE audit_scope_projects (
    project TEXT    NOT NULL,
    scope   INTEGER NOT NULL REFERENCES audit_scopes (id),
    PRIMARY KEY (project, scope)
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_scope_projects_by_scope ON audit_scope_projects (scope, project);

CREATE TABLE audit_entries (
    seq          INTEGER NOT NULL PRIMARY KEY,
    at           INTEGER NOT NULL,
    actor        TEXT    NOT NULL CHECK (actor IN ('key', 'command_line', 'server')),
    key_prefix   TEXT,
    organisation TEXT,
    action       TEXT    NOT NULL,
    object       TEXT,
    share        TEXT,
    scope        INTEGER REFERENCES audit_scopes (id),
    -- A JSON value.
    parameters   TEXT,
    outcome      TEXT    NOT NULL CHECK (outcome IN ('begun', 'answered', 'abandoned', 'done', 'failed')),
    status       INTEGER,
    address      TEXT,
    rows         INTEGER,
    lake_version INTEGER,
    request_id   TEXT,
    hash         BLOB    NOT NULL CHECK (length(hash) = 32),
    CHECK ((actor = 'key') = (key_prefix IS NOT NULL)),
    CHECK ((outcome = 'answered') = (status IS NOT NULL))
) STRICT;

-- A list is by time, the newest first, whichever of these it is narrowed by; `seq` stands behind each of them.
CREATE INDEX audit_entries_by_time ON audit_entries (at);
CREATE INDEX audit_entries_by_scope ON audit_entries (scope, at) WHERE scope IS NOT NULL;
CREATE INDEX audit_entries_by_key ON audit_entries (key_prefix, at) WHERE key_prefix IS NOT NULL;
CREATE INDEX audit_entries_by_organisation ON audit_entries (organisation, at) WHERE organisation IS NOT NULL;
CREATE INDEX audit_entries_by_action ON audit_entries (action, at);

-- The newest entry. It is kept apart from the entries, so that a log that was cut at its end is known too.
CREATE TABLE audit_head (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    seq      INTEGER NOT NULL,
    hash     BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO audit_head VALUES (1, 0, zeroblob(32));

-- The last entry that retention took away: what stands behind it follows from its hash.
CREATE TABLE audit_anchor (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    seq      INTEGER NOT NULL,
    hash     BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

INSERT INTO audit_anchor VALUES (1, 0, zeroblob(32));

CREATE TRIGGER audit_entries_stay BEFORE UPDATE ON audit_entries
BEGIN SELECT RAISE(ABORT, 'entries of the audit log never change'); END;

CREATE TRIGGER audit_entries_are_kept BEFORE DELETE ON audit_entries
WHEN OLD.seq > (SELECT seq FROM audit_anchor)
BEGIN SELECT RAISE(ABORT, 'entries of the audit log go by retention alone'); END;

-- An `INSERT OR REPLACE` would delete without the trigger above.
CREATE TRIGGER audit_entries_are_appended BEFORE INSERT ON audit_entries
WHEN NEW.seq <= (SELECT seq FROM audit_head)
BEGIN SELECT RAISE(ABORT, 'entries of the audit log are appended'); END;

CREATE TRIGGER audit_head_goes_on BEFORE UPDATE ON audit_head
WHEN NEW.seq < OLD.seq
BEGIN SELECT RAISE(ABORT, 'the audit log never becomes shorter'); END;

CREATE TRIGGER audit_head_is_kept BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'the audit log has an end'); END;

CREATE TRIGGER audit_anchor_is_an_entry BEFORE UPDATE ON audit_anchor
WHEN NEW.seq <= OLD.seq OR NEW.hash IS NOT (SELECT hash FROM audit_entries WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'the audit log is cut behind one of its entries'); END;

CREATE TRIGGER audit_anchor_is_kept BEFORE DELETE ON audit_anchor
BEGIN SELECT RAISE(ABORT, 'the audit log has a beginning'); END;

CREATE TRIGGER audit_scopes_stay BEFORE UPDATE ON audit_scopes
BEGIN SELECT RAISE(ABORT, 'entries of the audit log never change'); END;
