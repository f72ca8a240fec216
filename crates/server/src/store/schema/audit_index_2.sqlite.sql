-- The search index over the log's entries. It can be made again from them at any time. Rows come in
-- the order of their key, so they are only ever added at one end; refusals are few, and are the ones
-- looked for by code.

CREATE TABLE zt_audit (
    leaf_index   INTEGER NOT NULL PRIMARY KEY,
    leaf_hash    TEXT    NOT NULL,
    receipt      TEXT    NOT NULL,
    node         TEXT    NOT NULL,
    seq          BIGINT  NOT NULL,
    kind         TEXT    NOT NULL,
    timestamp    BIGINT  NOT NULL,
    event_type   TEXT    NOT NULL,
    status       TEXT    NOT NULL,
    principal    TEXT    NOT NULL,
    on_behalf_of TEXT    NOT NULL,
    service      TEXT    NOT NULL,
    resource     TEXT    NOT NULL,
    action       TEXT    NOT NULL,
    code         TEXT    NOT NULL,
    pillar       TEXT    NOT NULL,
    source_ip    TEXT    NOT NULL
);
CREATE INDEX zt_audit_by_code ON zt_audit (code) WHERE code <> '';
