-- Whether a revision that was in force wants changes approved by a second person: what a start
-- has to know when the revision itself can't be read any more.

CREATE TABLE governed_revisions (
    revision TEXT   NOT NULL PRIMARY KEY,
    governed BIGINT NOT NULL CHECK (governed IN (0, 1))
);
