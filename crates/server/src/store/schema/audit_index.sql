-- The search index over the log's entries. It can be made again from them at any time.

CREATE TABLE zt_audit (
    leaf_index   BIGINT NOT NULL PRIMARY KEY,
    leaf_hash    TEXT   NOT NULL,
    receipt      TEXT   NOT NULL,
    node         TEXT   NOT NULL,
    seq          BIGINT NOT NULL,
    kind         TEXT   NOT NULL,
    timestamp    BIGINT NOT NULL,
    event_type   TEXT   NOT NULL,
    status       TEXT   NOT NULL,
    principal    TEXT   NOT NULL,
    on_behalf_of TEXT   NOT NULL,
    service      TEXT   NOT NULL,
    resource     TEXT   NOT NULL,
    action       TEXT   NOT NULL,
    code         TEXT   NOT NULL,
    pillar       TEXT   NOT NULL,
    source_ip    TEXT   NOT NULL
);
CREATE INDEX zt_audit_by_receipt ON zt_audit (receipt);
CREATE INDEX zt_audit_by_time ON zt_audit (timestamp);
CREATE INDEX zt_audit_by_principal ON zt_audit (principal, leaf_index);
CREATE INDEX zt_audit_by_service ON zt_audit (service, leaf_index);
CREATE INDEX zt_audit_by_code ON zt_audit (code, leaf_index);
