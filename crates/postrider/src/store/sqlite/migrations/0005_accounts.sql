-- Sessions and links that are good for one use, each kept whole as JSON. Users are objects.

-- hash: SHA-256 of the token that shows it. owner: the user, or the tenant of a portal session.
CREATE TABLE sessions (
    hash       BLOB PRIMARY KEY CHECK (length(hash) = 32),
    id         BLOB NOT NULL CHECK (length(id) = 16),
    owner      BLOB NOT NULL CHECK (length(owner) = 16),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    body       TEXT NOT NULL CHECK (json_valid(body))
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_owner ON sessions (owner, created_at);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE links (
    hash       BLOB PRIMARY KEY CHECK (length(hash) = 32),
    kind       TEXT NOT NULL,
    owner      BLOB CHECK (length(owner) = 16),
    expires_at INTEGER NOT NULL,
    body       TEXT NOT NULL CHECK (json_valid(body))
) STRICT, WITHOUT ROWID;
CREATE INDEX links_owner ON links (owner, kind) WHERE owner IS NOT NULL;
CREATE INDEX links_expires_at ON links (expires_at);
