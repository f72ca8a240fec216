CREATE TABLE gateways (
    name      TEXT   NOT NULL PRIMARY KEY,
    listeners TEXT   NOT NULL,
    witness   TEXT,
    at        BIGINT NOT NULL
);

CREATE TABLE join_tokens (
    hash      TEXT   NOT NULL PRIMARY KEY,
    gateway   TEXT   NOT NULL,
    listeners TEXT   NOT NULL,
    ends      BIGINT NOT NULL,
    used      BIGINT
);
