-- Programmes that pay for connections which really pay, each of the organisation that administers it.
CREATE TABLE programmes (
    slug         TEXT    NOT NULL PRIMARY KEY,
    organisation TEXT    NOT NULL REFERENCES organisations (slug),
    name         TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    -- The start of the key that made it; null for the command line.
    created_by   TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX programmes_of_an_organisation ON programmes (organisation);

-- The terms of a programme, each version once and for good.
CREATE TABLE programme_versions (
    programme        TEXT    NOT NULL REFERENCES programmes (slug),
    version          INTEGER NOT NULL CHECK (version >= 1),
    -- A JSON array of the columns that files of enrolled projects must have, beyond those that every file must.
    required_columns TEXT    NOT NULL,
    -- The rule of verification, as JSON.
    rule             TEXT    NOT NULL,
    created_at       INTEGER NOT NULL,
    created_by       TEXT,
    PRIMARY KEY (programme, version)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER programme_versions_stay BEFORE UPDATE ON programme_versions
BEGIN SELECT raise(ABORT, 'a version of a programme is never edited'); END;

CREATE TRIGGER programme_versions_are_kept BEFORE DELETE ON programme_versions
BEGIN SELECT raise(ABORT, 'a version of a programme is never deleted'); END;

-- The organisations that a programme invites: they see it, and may enrol their projects.
CREATE TABLE programme_invitations (
    programme    TEXT NOT NULL REFERENCES programmes (slug),
    organisation TEXT NOT NULL REFERENCES organisations (slug),
    PRIMARY KEY (programme, organisation)
) STRICT, WITHOUT ROWID;

CREATE INDEX invitations_of_an_organisation ON programme_invitations (organisation);

-- The projects that take part, and the version of the terms that their organisation agreed to.
CREATE TABLE enrolments (
    programme    TEXT    NOT NULL REFERENCES programmes (slug),
    project      TEXT    NOT NULL REFERENCES projects (slug),
    version      INTEGER NOT NULL,
    enrolled_at  INTEGER NOT NULL,
    enrolled_by  TEXT,
    -- From then on the programme sees nothing more of the project; what it verified before stays.
    withdrawn_at INTEGER,
    PRIMARY KEY (programme, project),
    FOREIGN KEY (programme, version) REFERENCES programme_versions (programme, version)
) STRICT, WITHOUT ROWID;

CREATE INDEX enrolments_of_a_project ON enrolments (project);
