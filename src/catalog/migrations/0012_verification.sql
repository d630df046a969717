-- Runs of verification. What they found of each connection is in a file of the data folder.
CREATE TABLE verification_runs (
    id             TEXT    NOT NULL PRIMARY KEY,
    programme      TEXT    NOT NULL REFERENCES programmes (slug),
    -- Whether it only shows what would be: another rule, or connections that were not submitted.
    dry_run        INTEGER NOT NULL CHECK (dry_run IN (0, 1)),
    -- The version of the terms whose rule it goes by; null where it tries another rule out.
    rule_version   INTEGER,
    rule           TEXT    NOT NULL,
    -- Enrolled projects that consented to other terms, and so are left out, as JSON.
    other_terms    TEXT    NOT NULL,
    as_of          INTEGER NOT NULL,
    lake_version   INTEGER NOT NULL,
    -- What was asked for: projects and connections, as JSON; null is all.
    selection      TEXT,
    state          TEXT    NOT NULL CHECK (state IN ('running', 'done', 'failed')),
    -- The start of the key that began it, and its organisation; null for an administrator's.
    started_by     TEXT    NOT NULL,
    organisation   TEXT REFERENCES organisations (slug),
    started_at     INTEGER NOT NULL,
    ended_at       INTEGER,
    connections    INTEGER,
    -- How many connections came to each outcome, as JSON.
    outcomes       TEXT,
    -- Of the file of its verdicts.
    sha256         BLOB CHECK (length(sha256) = 32),
    failure        TEXT,
    FOREIGN KEY (programme, rule_version) REFERENCES programme_versions (programme, version)
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_of_a_programme ON verification_runs (programme, id);
CREATE INDEX runs_under_way ON verification_runs (state) WHERE state = 'running';

-- The projects that a run looked at, and what it knew of them.
CREATE TABLE verification_projects (
    run       TEXT NOT NULL REFERENCES verification_runs (id),
    project   TEXT NOT NULL REFERENCES projects (slug),
    time_zone TEXT NOT NULL,
    PRIMARY KEY (run, project)
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_of_a_project ON verification_projects (project);

-- The uploads that made up these projects, in the order in which they landed.
CREATE TABLE verification_uploads (
    run       TEXT    NOT NULL,
    project   TEXT    NOT NULL,
    position  INTEGER NOT NULL,
    upload_id TEXT    NOT NULL REFERENCES uploads (id),
    sha256    TEXT    NOT NULL,
    PRIMARY KEY (run, project, position),
    FOREIGN KEY (run, project) REFERENCES verification_projects (run, project)
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_that_rest_on_an_upload ON verification_uploads (upload_id);

-- The connections that were submitted to a programme, each once.
CREATE TABLE submissions (
    programme     TEXT    NOT NULL REFERENCES programmes (slug),
    project       TEXT    NOT NULL REFERENCES projects (slug),
    external_id   TEXT    NOT NULL,
    -- Its turn: of two that are the same connection, the earlier one counts.
    number        INTEGER NOT NULL,
    -- The device as it was submitted, so that a later change of the connection makes no second one of it.
    serial_number TEXT,
    state         TEXT    NOT NULL CHECK (state IN ('submitted', 'verified', 'failed', 'paid')),
    submitted_at  INTEGER NOT NULL,
    submitted_by  TEXT    NOT NULL,
    state_at      INTEGER NOT NULL,
    state_by      TEXT    NOT NULL,
    -- The last verdict, and the run that gave it.
    outcome       TEXT,
    run           TEXT REFERENCES verification_runs (id),
    -- What the verdict would be now, where that is another one, and since when that is known.
    would_be      TEXT,
    reopened_at   INTEGER,
    PRIMARY KEY (programme, project, external_id)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX submissions_by_turn ON submissions (programme, number);
CREATE INDEX submissions_reopened ON submissions (programme, number) WHERE reopened_at IS NOT NULL;

-- All that became of submissions, from the first state on.
CREATE TABLE submission_events (
    programme   TEXT    NOT NULL,
    project     TEXT    NOT NULL,
    external_id TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    event       TEXT    NOT NULL CHECK (event IN ('submitted', 'verified', 'failed', 'paid', 'reopened', 'settled')),
    -- The start of the key; null for the server itself.
    by          TEXT,
    outcome     TEXT,
    run         TEXT,
    PRIMARY KEY (programme, project, external_id, number),
    FOREIGN KEY (programme, project, external_id) REFERENCES submissions (programme, project, external_id)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER submission_events_stay BEFORE UPDATE ON submission_events
BEGIN SELECT raise(ABORT, 'what became of a submission is never edited'); END;

CREATE TRIGGER submission_events_are_kept BEFORE DELETE ON submission_events
BEGIN SELECT raise(ABORT, 'what became of a submission is never deleted'); END;
