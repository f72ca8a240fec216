-- One schema for every database: BIGINT, TEXT and BLOB only (`BLOB` is `BYTEA` to PostgreSQL).
-- Moments are microseconds since the epoch, digests are 64 hex digits, lists are JSON.

CREATE TABLE revocations (
    epoch   BIGINT NOT NULL PRIMARY KEY,
    at      BIGINT NOT NULL,
    lifted  BIGINT NOT NULL CHECK (lifted IN (0, 1)),
    what    TEXT   NOT NULL
);

CREATE TABLE sessions (
    sid     TEXT   NOT NULL PRIMARY KEY,
    sub     TEXT   NOT NULL,
    groups  TEXT   NOT NULL,
    door    TEXT   NOT NULL,
    created BIGINT NOT NULL,
    ends    BIGINT NOT NULL,
    ended   BIGINT
);
CREATE INDEX sessions_by_sub ON sessions (sub);
CREATE INDEX sessions_by_end ON sessions (ends);

CREATE TABLE certificates (
    leaf       TEXT   NOT NULL PRIMARY KEY,
    serial     TEXT   NOT NULL UNIQUE,
    spiffe_id  TEXT   NOT NULL,
    issuer     TEXT   NOT NULL,
    not_before BIGINT NOT NULL,
    not_after  BIGINT NOT NULL
);
CREATE INDEX certificates_by_id ON certificates (spiffe_id, not_after);

CREATE TABLE token_keys (
    kid          TEXT   NOT NULL PRIMARY KEY,
    created      BIGINT NOT NULL,
    signs_from   BIGINT NOT NULL,
    withdrawn_at BIGINT
);

CREATE TABLE gateway_keys (
    gateway TEXT   NOT NULL PRIMARY KEY,
    jwk     TEXT   NOT NULL,
    at      BIGINT NOT NULL
);

CREATE TABLE secret_heads (
    path     TEXT   NOT NULL PRIMARY KEY,
    version  BIGINT NOT NULL,
    updated  BIGINT NOT NULL,
    data_key BLOB   NOT NULL,
    mac      TEXT   NOT NULL
);

CREATE TABLE secret_versions (
    path       TEXT   NOT NULL REFERENCES secret_heads (path),
    version    BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    ciphertext BLOB   NOT NULL,
    digest     TEXT   NOT NULL,
    PRIMARY KEY (path, version)
);

CREATE TABLE secret_table (
    id         BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    generation BIGINT NOT NULL,
    mac        TEXT   NOT NULL
);

CREATE TABLE revisions (
    serial      BIGINT NOT NULL PRIMARY KEY,
    revision    TEXT   NOT NULL,
    predecessor TEXT,
    at          BIGINT NOT NULL,
    actor       TEXT   NOT NULL
);

CREATE TABLE high_water (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
