-- SQL that an organisation saved under a name, each version once and for good. What is deleted stays, so that a number never
-- means two things; it is not found any more.
CREATE TABLE saved_queries (
    organisation TEXT    NOT NULL REFERENCES organisations (slug),
    name         TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    description  TEXT    NOT NULL,
    sql          TEXT    NOT NULL,
    -- A JSON array of the placeholders: name, type, description, default.
    parameters   TEXT    NOT NULL,
    -- A JSON array of the columns of its answer, as they were when it was saved.
    columns      TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL,
    deleted_at   INTEGER,
    PRIMARY KEY (organisation, name, version)
) STRICT, WITHOUT ROWID;
