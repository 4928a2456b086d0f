-- The data gateway. What changes for each day of history that exists is in 0004_gateway_day.sql and migrate.rs.

-- Configuration that is kept whole as JSON. kind: see ObjectKind. tenant: with which it goes. name: what no other of its
-- kind is called; NULL: nothing.
CREATE TABLE objects (
    kind   TEXT NOT NULL,
    id     BLOB NOT NULL CHECK (length(id) = 16),
    tenant BLOB CHECK (length(tenant) = 16),
    name   TEXT,
    body   TEXT NOT NULL CHECK (json_valid(body)),
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX objects_name ON objects (kind, name) WHERE name IS NOT NULL;
CREATE INDEX objects_tenant ON objects (tenant) WHERE tenant IS NOT NULL;

-- Deliveries that were let through to a state, or not, while they count: until the window is over.
CREATE TABLE fires (
    webhook   BLOB NOT NULL CHECK (length(webhook) = 16),
    state_key BLOB NOT NULL CHECK (length(state_key) = 32),
    delivery  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    until     INTEGER NOT NULL,
    allowed   INTEGER NOT NULL CHECK (allowed IN (0, 1)),
    PRIMARY KEY (webhook, state_key, delivery)
) STRICT, WITHOUT ROWID;
CREATE INDEX fires_at ON fires (webhook, state_key, at) WHERE allowed = 1;
CREATE INDEX fires_until ON fires (until);

-- How often each gateway key was used.
CREATE TABLE gateway_usage (
    key          BLOB PRIMARY KEY CHECK (length(key) = 16),
    count        INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
