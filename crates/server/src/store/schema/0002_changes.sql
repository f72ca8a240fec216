-- Changes of the configuration that wait for a second person, and what became of them.

CREATE TABLE changes (
    id           TEXT   NOT NULL PRIMARY KEY,
    base         TEXT   NOT NULL,
    revision     TEXT   NOT NULL,
    requested_by TEXT   NOT NULL,
    requested    BIGINT NOT NULL,
    ends         BIGINT NOT NULL,
    loosens      TEXT   NOT NULL,
    verdict      TEXT   CHECK (verdict IN ('approved', 'denied')),
    decided_by   TEXT,
    decided      BIGINT
);
CREATE INDEX changes_by_time ON changes (requested);
