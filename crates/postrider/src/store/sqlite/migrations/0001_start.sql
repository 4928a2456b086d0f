-- Postrider's embedded store, version 1. Day partitions (events_, deliveries_, attempts_, keys_ and rollups_YYYYMMDD)
-- are created by partition.rs as days come; docs/data-model.md describes every table.
-- Identifiers are 16-byte blobs, times are Unix milliseconds, enums are the small integers of row.rs.

-- Which day partitions exist. kind: 'history' (events, deliveries, attempts), 'keys' or 'rollups'.
CREATE TABLE days (
    kind TEXT NOT NULL CHECK (kind IN ('history', 'keys', 'rollups')),
    day  INTEGER NOT NULL,                          -- days since the Unix epoch
    PRIMARY KEY (kind, day)
) STRICT, WITHOUT ROWID;

-- Deliveries still to do. A held row (due_at NULL) is in no secondary index unless it is a replay, so a first try
-- that succeeds costs one append and one delete near the end of one tree.
CREATE TABLE pending (
    n         INTEGER PRIMARY KEY,
    event     INTEGER NOT NULL,
    tenant    BLOB NOT NULL CHECK (length(tenant) = 16),
    webhook   BLOB NOT NULL CHECK (length(webhook) = 16),
    due_at    INTEGER,
    attempts  INTEGER NOT NULL,
    step      INTEGER NOT NULL,
    resume_at INTEGER,
    trigger   INTEGER NOT NULL CHECK (trigger BETWEEN 0 AND 3),
    replay    BLOB CHECK (length(replay) = 16),
    ordering_key TEXT
) STRICT;
CREATE INDEX pending_due ON pending (webhook, due_at, n) WHERE due_at IS NOT NULL;
CREATE INDEX pending_order ON pending (webhook, n) WHERE due_at IS NOT NULL;
CREATE INDEX pending_key ON pending (webhook, ordering_key, n)
    WHERE ordering_key IS NOT NULL AND due_at IS NOT NULL;
CREATE INDEX pending_late ON pending (event, n) WHERE n - event > 1000;

CREATE TABLE webhook_health (
    webhook              BLOB PRIMARY KEY CHECK (length(webhook) = 16),
    tenant               BLOB NOT NULL CHECK (length(tenant) = 16),
    recorded_at          INTEGER NOT NULL,          -- when it last had an outcome of any kind
    last_delivery_at     INTEGER,
    last_success_at      INTEGER,
    last_failure_at      INTEGER,
    last_succeeded       INTEGER CHECK (last_succeeded IN (0, 1)),
    failing_since        INTEGER,
    consecutive_failures INTEGER NOT NULL DEFAULT 0,
    failing              INTEGER NOT NULL DEFAULT 0 CHECK (failing IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_health_tenant ON webhook_health (tenant);

CREATE TABLE replays (
    number          INTEGER PRIMARY KEY AUTOINCREMENT,
    id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    tenant          BLOB NOT NULL CHECK (length(tenant) = 16),
    selection       TEXT NOT NULL CHECK (json_valid(selection)),
    rate_per_second REAL,
    status          INTEGER NOT NULL CHECK (status BETWEEN 0 AND 2),
    matched         INTEGER NOT NULL,
    done            INTEGER NOT NULL,
    queued          INTEGER NOT NULL,
    cursor          INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    finished_at     INTEGER
) STRICT;
CREATE INDEX replays_tenant ON replays (tenant, number);
CREATE INDEX replays_running ON replays (number) WHERE status = 0;

CREATE TABLE partners (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tenants (
    id          BLOB PRIMARY KEY CHECK (length(id) = 16),
    name        TEXT NOT NULL,
    partner     BLOB CHECK (length(partner) = 16),
    external_id TEXT UNIQUE,
    dialect     TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    id           BLOB PRIMARY KEY CHECK (length(id) = 16),
    tenant       BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    role         TEXT NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    scopes       TEXT NOT NULL CHECK (json_valid(scopes)),
    hash         BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
    shown_prefix TEXT NOT NULL,
    expires_at   INTEGER,
    created_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_tenant ON api_keys (tenant);

-- tenant: an empty blob for the platform's own types.
CREATE TABLE event_types (
    tenant     BLOB NOT NULL CHECK (length(tenant) IN (0, 16)),
    name       TEXT NOT NULL,
    body       TEXT NOT NULL CHECK (json_valid(body)),
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE webhooks (
    id              BLOB PRIMARY KEY CHECK (length(id) = 16),
    tenant          BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    spec            TEXT NOT NULL CHECK (json_valid(spec)),
    status          TEXT NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
    disabled_reason TEXT,
    sealed_secrets  BLOB NOT NULL,
    temporary       INTEGER NOT NULL CHECK (temporary IN (0, 1)),
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX webhooks_tenant ON webhooks (tenant);

CREATE TABLE audit_log (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    id         BLOB NOT NULL CHECK (length(id) = 16),
    at         INTEGER NOT NULL,
    tenant     BLOB CHECK (length(tenant) = 16),
    actor      TEXT NOT NULL,
    address    TEXT,
    request_id TEXT,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    before     TEXT CHECK (json_valid(before)),
    after      TEXT CHECK (json_valid(after))
) STRICT;
CREATE INDEX audit_log_tenant ON audit_log (tenant, number);
CREATE INDEX audit_log_actor ON audit_log (actor, number);

-- Replies to API requests that carried an Idempotency-Key; status NULL while the request is worked on.
CREATE TABLE replies (
    caller      TEXT NOT NULL,
    route       TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 32),
    at          INTEGER NOT NULL,
    status      INTEGER,
    sealed_body BLOB,
    PRIMARY KEY (caller, route, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX replies_at ON replies (at);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
