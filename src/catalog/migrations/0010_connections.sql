-- The connections of projects. Each field has its one form, so that what says the same is the same text; null is blank.
CREATE TABLE connections (
    project                TEXT NOT NULL REFERENCES projects (slug),
    external_id            TEXT NOT NULL,
    serial_number          TEXT,
    customer_name          TEXT,
    category               TEXT,
    customer_type          TEXT,
    gender                 TEXT,
    phone                  TEXT,
    country                TEXT,
    address                TEXT,
    latitude               TEXT,
    longitude              TEXT,
    product_name           TEXT,
    milestone              TEXT,
    inverter_serial_number TEXT,
    capacity               TEXT,
    site                   TEXT,
    connected_on           TEXT CHECK (length(connected_on) = 10),
    -- A hash of the fields, to tell a correction from the same again.
    content                INTEGER NOT NULL,
    created_at             INTEGER NOT NULL,
    updated_at             INTEGER NOT NULL,
    PRIMARY KEY (project, external_id)
) STRICT, WITHOUT ROWID;

-- How often the connections of a project changed in a way that its payments show, and which of these changes the payments in
-- the lake show already. What a crash left between the two is made up for.
CREATE TABLE connection_changes (
    project TEXT    NOT NULL PRIMARY KEY REFERENCES projects (slug),
    made    INTEGER NOT NULL,
    shown   INTEGER NOT NULL,
    CHECK (shown <= made)
) STRICT, WITHOUT ROWID;

-- The site of an upload's rows of a project that have neither a connection with a site nor a LOCATION. Uploads from before
-- have it in their folders alone, from where it comes here.
CREATE TABLE upload_sites (
    project   TEXT NOT NULL REFERENCES projects (slug),
    upload_id TEXT NOT NULL REFERENCES uploads (id),
    site      TEXT NOT NULL,
    PRIMARY KEY (project, upload_id)
) STRICT, WITHOUT ROWID;

-- What the columns of the lake's table are, so that a table from before gets those that it lacks, once.
CREATE TABLE lake_schema (
    only_row INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    columns  TEXT    NOT NULL
) STRICT;
