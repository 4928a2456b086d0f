-- Version 5: accounts. Only adds, so nodes of version 4 go on beside nodes of this one: they have no console.
-- Sessions and links that are good for one use, each kept whole as JSON. Users are objects.

-- hash: SHA-256 of the token that shows it. owner: the user, or the tenant of a portal session.
CREATE TABLE sessions (
    hash       bytea PRIMARY KEY CHECK (length(hash) = 32),
    id         uuid NOT NULL,
    owner      uuid NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    body       text NOT NULL
);
CREATE INDEX sessions_owner ON sessions (owner, created_at);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE links (
    hash       bytea PRIMARY KEY CHECK (length(hash) = 32),
    kind       text NOT NULL,
    owner      uuid,
    expires_at bigint NOT NULL,
    body       text NOT NULL
);
CREATE INDEX links_owner ON links (owner, kind) WHERE owner IS NOT NULL;
CREATE INDEX links_expires_at ON links (expires_at);
