-- Postrider over PostgreSQL, version 1; docs/data-model.md describes every table.
-- Times are Unix milliseconds, enums the small integers of store/codes.rs. Every table that grows leads its keys with the
-- tenant, so that a sharded PostgreSQL can distribute by it; docs/scaling.md names the statements that would not.

-- Nodes ----------------------------------------------------------------------------------------------------------------

CREATE SEQUENCE node_sessions AS integer;

-- One row per session of a process. A session whose heartbeat is older than its time to live (by this server's clock) may
-- be marked dead by any other; what it owned is then taken over. Ended and dead rows stay until nothing is theirs.
CREATE TABLE nodes (
    session      integer PRIMARY KEY,
    -- The least number that no living session has: rows that all nodes write to are kept one per slot, so that nodes
    -- never wait for each other's locks there.
    slot         smallint NOT NULL,
    name         text NOT NULL,
    version      text NOT NULL,
    ttl_ms       integer NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dead         boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX nodes_slot ON nodes (slot) WHERE NOT dead;

-- The home of a webhook that one node must send for. Accepting locks the row before numbers are taken, so the numbers of
-- one webhook are in the order of commit. owner 0: nobody's yet. parked_last: the greatest number that another node than
-- the home has parked. heir: who moves the rows of a dead home to itself, and will be the home when all are moved.
CREATE TABLE homes (
    webhook     uuid PRIMARY KEY,
    tenant      uuid NOT NULL,
    owner       integer NOT NULL,
    heir        integer NOT NULL DEFAULT 0,
    parked_last bigint NOT NULL DEFAULT 0
);
CREATE INDEX homes_owner ON homes (owner);

-- Numbers of events and deliveries: 41 bits of milliseconds since 2024, 12 bits of counter. One sequence for all nodes.
CREATE SEQUENCE numbers AS bigint MINVALUE 0 START 0;
SELECT setval('numbers', 0, true);

-- Takes `count` consecutive numbers, none below `at_least`; the first of them. The lock is held for the moment of the call
-- and not until commit. It is given back whatever happens in between.
CREATE FUNCTION take_numbers(count bigint, at_least bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    first bigint;
BEGIN
    PERFORM pg_advisory_lock(7305790000001);
    SELECT greatest(last_value + 1, at_least) INTO first FROM numbers;
    PERFORM setval('numbers', first + count - 1, true);
    PERFORM pg_advisory_unlock(7305790000001);
    RETURN first;
EXCEPTION WHEN query_canceled OR OTHERS THEN
    PERFORM pg_advisory_unlock(key) FROM (
        SELECT 7305790000001 AS key FROM pg_locks
        WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (classid::bigint << 32 | objid::bigint) = 7305790000001 AND objsubid = 1) AS held;
    RAISE;
END $$;

-- The queue ------------------------------------------------------------------------------------------------------------

-- due_at NULL: the owner holds it in memory. Otherwise it waits here for its owner. owner 0: for whoever takes it.
CREATE TABLE pending (
    tenant       uuid NOT NULL,
    webhook      uuid NOT NULL,
    n            bigint NOT NULL,
    event        bigint NOT NULL,
    owner        integer NOT NULL,
    due_at       bigint,
    attempts     integer NOT NULL DEFAULT 0,
    step         integer NOT NULL DEFAULT 0,
    resume_at    bigint,
    trigger      smallint NOT NULL CHECK (trigger BETWEEN 0 AND 3),
    replay       uuid,
    ordering_key text,
    PRIMARY KEY (tenant, webhook, n)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000);
CREATE INDEX pending_number ON pending (n);
CREATE INDEX pending_held ON pending (owner, n) WHERE due_at IS NULL;
CREATE INDEX pending_due ON pending (owner, webhook, due_at, n) WHERE due_at IS NOT NULL;
CREATE INDEX pending_order ON pending (owner, webhook, n) WHERE due_at IS NOT NULL;
CREATE INDEX pending_key ON pending (webhook, ordering_key, n) WHERE due_at IS NOT NULL AND ordering_key IS NOT NULL;
CREATE INDEX pending_late ON pending (tenant, event, n) WHERE n - event > 1000;

-- History, partitioned by the UTC day of a row's own number; partition.rs makes and drops the days. --------------------

CREATE TABLE events (
    tenant          uuid NOT NULL,
    n               bigint NOT NULL,
    entropy         bigint NOT NULL,
    type            text NOT NULL,
    fanout          integer NOT NULL,
    source          smallint NOT NULL CHECK (source IN (0, 1)),
    occurred_at     bigint,
    external_id     text,
    idempotency_key text,
    ordering_key    text,
    trace_parent    text,
    data            text NOT NULL,
    PRIMARY KEY (tenant, n)
) PARTITION BY RANGE (n);
-- Half the processor time of the default, where the server was built with it.
DO $$ BEGIN
    ALTER TABLE events ALTER COLUMN data SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
CREATE INDEX events_number ON events (n);
CREATE INDEX events_external ON events (tenant, external_id) WHERE external_id IS NOT NULL;

CREATE TABLE deliveries (
    tenant           uuid NOT NULL,
    n                bigint NOT NULL,
    event            bigint NOT NULL,
    entropy          bigint NOT NULL,
    webhook          uuid NOT NULL,
    type             text NOT NULL,
    status           smallint NOT NULL CHECK (status IN (1, 2, 3)),
    trigger          smallint NOT NULL CHECK (trigger BETWEEN 0 AND 3),
    replay           uuid,
    attempts         integer NOT NULL,
    finished_at      bigint NOT NULL,
    attempt          integer,
    attempt_at       bigint,
    duration_ms      integer,
    http_status      smallint,
    error_class      smallint,
    error_detail     text,
    address          text,
    response_headers text,
    response_body    bytea,
    PRIMARY KEY (tenant, webhook, n)
) PARTITION BY RANGE (n);
-- A tenant's list is merged from its webhooks, so a success is in two indexes and not in three.
CREATE INDEX deliveries_number ON deliveries (n);
CREATE INDEX deliveries_bad ON deliveries (tenant, webhook, n) WHERE status <> 1;
CREATE INDEX deliveries_bad_number ON deliveries (n) WHERE status <> 1;
CREATE INDEX deliveries_late ON deliveries (tenant, event, n) WHERE n - event > 1000;

-- Attempts that were not the last.
CREATE TABLE attempts (
    tenant           uuid NOT NULL,
    delivery         bigint NOT NULL,
    attempt          integer NOT NULL,
    attempt_at       bigint NOT NULL,
    duration_ms      integer NOT NULL,
    http_status      smallint,
    error_class      smallint,
    error_detail     text,
    address          text,
    response_headers text,
    response_body    bytea,
    PRIMARY KEY (tenant, delivery, attempt)
) PARTITION BY RANGE (delivery);

-- Idempotency keys and external ids of publishers, partitioned by the day (since the epoch) on which they count: a key is
-- written for its day and for the next one, so that one unique index catches every repetition within 24 hours, on
-- whatever nodes and across midnight. kind 0: idempotency key, 1: external id.
CREATE TABLE keys (
    day    integer NOT NULL,
    tenant uuid NOT NULL,
    kind   smallint NOT NULL CHECK (kind IN (0, 1)),
    key    text NOT NULL,
    event  bigint NOT NULL,
    PRIMARY KEY (day, tenant, kind, key)
) PARTITION BY RANGE (day);

-- Statistics: one row per node slot, added up when read. --------------------------------------------------------------

-- subject: a webhook, a tenant, or all zeros for the platform.
CREATE TABLE rollups (
    tenant    uuid NOT NULL,
    subject   uuid NOT NULL,
    bucket    bigint NOT NULL,
    slot      smallint NOT NULL,
    succeeded bigint NOT NULL,
    failed    bigint NOT NULL,
    canceled  bigint NOT NULL,
    codes     jsonb NOT NULL,
    latency   bytea NOT NULL,
    PRIMARY KEY (tenant, subject, bucket, slot)
) PARTITION BY RANGE (bucket);

CREATE TABLE webhook_health (
    tenant               uuid NOT NULL,
    webhook              uuid NOT NULL,
    slot                 smallint NOT NULL,
    recorded_at          bigint NOT NULL,
    last_delivery_at     bigint,
    last_success_at      bigint,
    last_failure_at      bigint,
    last_succeeded       boolean,
    failing_since        bigint,
    consecutive_failures bigint NOT NULL DEFAULT 0,
    failing              boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, webhook, slot)
) WITH (fillfactor = 50);
CREATE INDEX webhook_health_webhook ON webhook_health (webhook);

-- Replays, configuration, audit, replies -------------------------------------------------------------------------------

CREATE TABLE replays (
    number          bigint GENERATED ALWAYS AS IDENTITY,
    id              uuid NOT NULL,
    tenant          uuid NOT NULL,
    owner           integer NOT NULL,
    selection       jsonb NOT NULL,
    rate_per_second double precision,
    status          smallint NOT NULL CHECK (status BETWEEN 0 AND 2),
    matched         bigint NOT NULL,
    done            bigint NOT NULL,
    queued          bigint NOT NULL,
    cursor          bigint NOT NULL,
    created_at      bigint NOT NULL,
    finished_at     bigint,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX replays_tenant ON replays (tenant, number);
CREATE INDEX replays_number ON replays (number);
CREATE INDEX replays_id ON replays (id);
CREATE INDEX replays_running ON replays (owner) WHERE status = 0;

CREATE TABLE partners (
    number     bigint GENERATED ALWAYS AS IDENTITY,
    id         uuid PRIMARY KEY,
    name       text NOT NULL,
    created_at bigint NOT NULL
);
CREATE INDEX partners_number ON partners (number);

CREATE TABLE tenants (
    id          uuid PRIMARY KEY,
    name        text NOT NULL,
    partner     uuid,
    external_id text UNIQUE,
    dialect     text NOT NULL,
    created_at  bigint NOT NULL,
    updated_at  bigint NOT NULL
);

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    tenant       uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name         text NOT NULL,
    role         text NOT NULL CHECK (role IN ('viewer', 'member', 'admin', 'owner')),
    scopes       jsonb NOT NULL,
    hash         bytea NOT NULL UNIQUE CHECK (length(hash) = 32),
    shown_prefix text NOT NULL,
    expires_at   bigint,
    created_at   bigint NOT NULL
);
CREATE INDEX api_keys_tenant ON api_keys (tenant);

-- tenant: all zeros for the platform's own types. body: text, since a schema must come back as it was put.
CREATE TABLE event_types (
    tenant uuid NOT NULL,
    name   text NOT NULL,
    body   text NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- session: of the node that a temporary webhook's listener is connected to.
CREATE TABLE webhooks (
    id              uuid PRIMARY KEY,
    tenant          uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    spec            text NOT NULL,
    status          text NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
    disabled_reason text,
    sealed_secrets  bytea NOT NULL,
    temporary       boolean NOT NULL,
    session         integer,
    created_at      bigint NOT NULL,
    updated_at      bigint NOT NULL
);
CREATE INDEX webhooks_tenant ON webhooks (tenant);
CREATE INDEX webhooks_session ON webhooks (session) WHERE temporary;

CREATE TABLE audit_log (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         uuid NOT NULL,
    at         bigint NOT NULL,
    tenant     uuid,
    actor      text NOT NULL,
    address    text,
    request_id text,
    action     text NOT NULL,
    target     text NOT NULL,
    before     text,
    after      text
);
CREATE INDEX audit_log_tenant ON audit_log (tenant, number);
CREATE INDEX audit_log_actor ON audit_log (actor, number);

-- session: of the node that works on the request; status NULL meanwhile.
CREATE TABLE replies (
    caller      text NOT NULL,
    route       text NOT NULL,
    key         text NOT NULL,
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    at          bigint NOT NULL,
    session     integer NOT NULL,
    status      smallint,
    sealed_body bytea,
    PRIMARY KEY (caller, route, key)
);
CREATE INDEX replies_at ON replies (at);

CREATE TABLE settings (
    name  text PRIMARY KEY,
    value bytea NOT NULL
);

-- Changes of configuration, for the other nodes. The single row of configuration_state gives them their order: whoever
-- changes something holds its lock until commit. holder, held_until: whose turn it is to change something.
CREATE TABLE configuration_state (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    version    bigint NOT NULL,
    holder     integer,
    held_until timestamptz
) WITH (fillfactor = 10);
INSERT INTO configuration_state (version) VALUES (1);

-- kind 0 partner, 1 tenant, 2 key, 3 event type (tenant and name), 4 webhook. id: of the object.
CREATE TABLE changes (
    version bigint NOT NULL,
    kind    smallint NOT NULL,
    id      uuid NOT NULL,
    name    text NOT NULL DEFAULT '',
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (version, kind, id, name)
);
