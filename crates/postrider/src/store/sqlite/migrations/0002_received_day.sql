CREATE TABLE received_{day} (
    n               INTEGER PRIMARY KEY,
    entropy         INTEGER NOT NULL,
    tenant          BLOB NOT NULL CHECK (length(tenant) = 16),
    webhook         BLOB NOT NULL CHECK (length(webhook) = 16),
    type            TEXT NOT NULL,
    source          TEXT NOT NULL,
    method          TEXT NOT NULL,
    target          TEXT NOT NULL,
    headers         TEXT NOT NULL,
    address         TEXT,
    verdict         INTEGER NOT NULL CHECK (verdict BETWEEN 0 AND 3),
    reason          TEXT,
    provider_event_id TEXT,
    test            INTEGER NOT NULL CHECK (test IN (0, 1)),
    event           INTEGER,
    event_entropy   INTEGER,
    repeat          INTEGER NOT NULL CHECK (repeat IN (0, 1)),
    released_at     INTEGER,
    content_type    TEXT,
    body            BLOB
) STRICT;
CREATE INDEX received_{day}_webhook ON received_{day} (webhook, n);
CREATE INDEX received_{day}_tenant ON received_{day} (tenant, n);
CREATE INDEX received_{day}_failed ON received_{day} (webhook, n) WHERE verdict = 3 AND event IS NULL;
