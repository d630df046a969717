-- From which version of the lake on all files of a project are kept: of earlier ones, some were removed. A project without a row
-- has all that it ever had.
CREATE TABLE lake_history (
    project    TEXT    NOT NULL PRIMARY KEY,
    whole_from INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Until now, nobody noted what was removed.
INSERT INTO lake_history
SELECT slug, version FROM projects, (SELECT max(version) AS version FROM lake_versions) WHERE version IS NOT NULL;
