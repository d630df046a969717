-- The sets of shares that what was done rested on, each once, as those of projects: a dashboard of an investor asks by the same
-- ones again and again. `audit_entries.share` names a set by its hash, so that an entry's own hash covers it; no entry from
-- before has one.
CREATE TABLE audit_share_sets (
    -- In hexadecimal, of `shares`.
    sha256 TEXT NOT NULL PRIMARY KEY CHECK (length(sha256) = 64),
    -- A JSON object: the id of each share, in their order, and the project of which it is.
    shares TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_entries_by_share_set ON audit_entries (share) WHERE share IS NOT NULL;

CREATE TRIGGER audit_share_sets_stay BEFORE UPDATE ON audit_share_sets
BEGIN SELECT RAISE(ABORT, 'entries of the audit log never change'); END;

CREATE TRIGGER audit_share_sets_are_kept BEFORE DELETE ON audit_share_sets
WHEN EXISTS (SELECT 1 FROM audit_entries WHERE share = OLD.sha256)
BEGIN SELECT RAISE(ABORT, 'entries of the audit log go by retention alone'); END;
