-- The tables of one day as schema 1 made them.

CREATE TABLE events_{day} (
    n               INTEGER PRIMARY KEY,
    entropy         INTEGER NOT NULL,
    tenant          BLOB NOT NULL CHECK (length(tenant) = 16),
    type            TEXT NOT NULL,
    fanout          INTEGER NOT NULL,
    source          INTEGER NOT NULL CHECK (source IN (0, 1)),
    occurred_at     INTEGER,
    external_id     TEXT,
    idempotency_key TEXT,
    ordering_key    TEXT,
    trace_parent    TEXT,
    data            TEXT NOT NULL
) STRICT;
CREATE INDEX events_{day}_tenant ON events_{day} (tenant, n);
CREATE UNIQUE INDEX events_{day}_external ON events_{day} (external_id, tenant) WHERE external_id IS NOT NULL;

CREATE TABLE deliveries_{day} (
    n               INTEGER PRIMARY KEY,
    event           INTEGER NOT NULL,
    entropy         INTEGER NOT NULL,
    tenant          BLOB NOT NULL CHECK (length(tenant) = 16),
    webhook         BLOB NOT NULL CHECK (length(webhook) = 16),
    type            TEXT NOT NULL,
    status          INTEGER NOT NULL CHECK (status IN (1, 2, 3)),
    trigger         INTEGER NOT NULL CHECK (trigger BETWEEN 0 AND 3),
    replay          BLOB CHECK (length(replay) = 16),
    attempts        INTEGER NOT NULL,
    finished_at     INTEGER NOT NULL,
    attempt         INTEGER,
    attempt_at      INTEGER,
    duration_ms     INTEGER,
    http_status     INTEGER,
    error_class     INTEGER,
    error_detail    TEXT,
    address         TEXT,
    response_headers TEXT,
    response_body   TEXT
) STRICT;
CREATE INDEX deliveries_{day}_webhook ON deliveries_{day} (webhook, n, status);
CREATE INDEX deliveries_{day}_bad ON deliveries_{day} (webhook, n, status) WHERE status <> 1;
CREATE INDEX deliveries_{day}_all_bad ON deliveries_{day} (n, status) WHERE status <> 1;
CREATE INDEX deliveries_{day}_late ON deliveries_{day} (event, n) WHERE n - event > 1000;

CREATE TABLE attempts_{day} (
    n               INTEGER PRIMARY KEY,
    delivery        INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    attempt_at      INTEGER NOT NULL,
    duration_ms     INTEGER NOT NULL,
    http_status     INTEGER,
    error_class     INTEGER,
    error_detail    TEXT,
    address         TEXT,
    response_headers TEXT,
    response_body   TEXT,
    UNIQUE (delivery, attempt)
) STRICT;

CREATE TABLE keys_{day} (
    tenant BLOB NOT NULL CHECK (length(tenant) = 16),
    key    TEXT NOT NULL,
    event  INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollups_{day} (
    subject    BLOB NOT NULL CHECK (length(subject) IN (0, 16)),
    bucket     INTEGER NOT NULL,
    succeeded  INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    canceled   INTEGER NOT NULL,
    codes      TEXT NOT NULL CHECK (json_valid(codes)),
    latency    BLOB NOT NULL,
    PRIMARY KEY (subject, bucket)
) STRICT, WITHOUT ROWID;
