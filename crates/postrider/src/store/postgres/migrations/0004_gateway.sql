-- Version 4: the data gateway. Only adds, so nodes of version 3 go on beside nodes of this one: they have no gateway, make
-- days without a route log and drop days without it, which partition.rs makes good.

-- Configuration that is kept whole as JSON (text, since it must come back as it was put). kind: see ObjectKind. tenant: with
-- which it goes. name: what no other of its kind is called; NULL: nothing.
CREATE TABLE objects (
    kind   text NOT NULL,
    id     uuid NOT NULL,
    tenant uuid,
    name   text,
    body   text NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX objects_name ON objects (kind, name) WHERE name IS NOT NULL;
CREATE INDEX objects_tenant ON objects (tenant) WHERE tenant IS NOT NULL;

-- Deliveries that were let through to a state, or not, while they count: until the window is over.
CREATE TABLE fires (
    webhook   uuid NOT NULL,
    state_key bytea NOT NULL CHECK (length(state_key) = 32),
    delivery  bigint NOT NULL,
    at        bigint NOT NULL,
    until     bigint NOT NULL,
    allowed   boolean NOT NULL,
    PRIMARY KEY (webhook, state_key, delivery)
);
CREATE INDEX fires_at ON fires (webhook, state_key, at) WHERE allowed;
CREATE INDEX fires_until ON fires (until);

-- How often each gateway key was used. Rewritten often: room in each page keeps the updates out of the index.
CREATE TABLE gateway_usage (
    key          uuid PRIMARY KEY,
    count        bigint NOT NULL,
    last_used_at bigint NOT NULL
) WITH (fillfactor = 50);

-- Calls of public routes, partitioned as events are, by numbers of the same sequence. tenant: all zeros where there was no
-- such route.
CREATE TABLE route_log (
    tenant uuid NOT NULL,
    n      bigint NOT NULL,
    route  text NOT NULL,
    failed boolean NOT NULL,
    body   text NOT NULL,
    PRIMARY KEY (tenant, n)
) PARTITION BY RANGE (n);
CREATE INDEX route_log_number ON route_log (n);
CREATE INDEX route_log_route ON route_log (route, n);
DO $$ DECLARE
    day record;
BEGIN
    FOR day IN SELECT right(c.relname, 8) AS suffix, pg_get_expr(c.relpartbound, c.oid) AS bound
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'events'::regclass AND NOT i.inhdetachpending AND c.relname ~ '^events_[0-9]{8}$'
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF route_log %s', 'route_log_' || day.suffix, day.bound);
    END LOOP;
END $$;

-- Last, since it waits for whoever reads the table and holds up whoever writes it; nothing is read or rewritten. Events of
-- the gateway.
ALTER TABLE events
    DROP CONSTRAINT events_source_check,
    ADD CONSTRAINT events_source_check CHECK (source BETWEEN 0 AND 5) NOT VALID;
