-- Version 2: received requests. Only adds, so nodes of version 1 go on beside nodes of this one; they know nothing of
-- received requests, make days without them and drop days without them, which partition.rs makes good.

-- Requests to receivers, partitioned as events are. The number is that of the event which the request became at once, or
-- one of its own. body NULL: the event of the same number has it (raw, or else data), and the content type. event,
-- event_entropy: the event that the request became, at once or by release, or that it repeats. headers: a JSON array of
-- pairs.
CREATE TABLE received (
    tenant            uuid NOT NULL,
    n                 bigint NOT NULL,
    entropy           bigint NOT NULL,
    webhook           uuid NOT NULL,
    type              text NOT NULL,
    source            text NOT NULL,
    method            text NOT NULL,
    target            text NOT NULL,
    headers           text NOT NULL,
    address           text,
    verdict           smallint NOT NULL CHECK (verdict BETWEEN 0 AND 3),
    reason            text,
    provider_event_id text,
    test              boolean NOT NULL,
    event             bigint,
    event_entropy     bigint,
    repeat            boolean NOT NULL,
    released_at       bigint,
    content_type      text,
    body              bytea,
    PRIMARY KEY (tenant, n)
) PARTITION BY RANGE (n);
CREATE INDEX received_number ON received (n);
CREATE INDEX received_webhook ON received (webhook, n);
-- What verifying again may release.
CREATE INDEX received_failed ON received (webhook, n) WHERE verdict = 3 AND event IS NULL;
DO $$ BEGIN
    ALTER TABLE received ALTER COLUMN body SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
DO $$ DECLARE
    day record;
BEGIN
    FOR day IN SELECT right(c.relname, 8) AS suffix, pg_get_expr(c.relpartbound, c.oid) AS bound
               FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
               WHERE i.inhparent = 'events'::regclass AND NOT i.inhdetachpending AND c.relname ~ '^events_[0-9]{8}$'
    LOOP
        EXECUTE format('CREATE TABLE %I PARTITION OF received %s', 'received_' || day.suffix, day.bound);
    END LOOP;
END $$;

-- These come last, since they wait for whoever reads the tables and hold up whoever writes them; nothing is rewritten and
-- nothing read. The rows that are there keep the narrower rule of version 1, so the wider one needs no look at them.

-- What sealed_secrets is to signing, to verifying what a webhook receives.
ALTER TABLE webhooks ADD COLUMN sealed_receiver bytea;
-- The content type and, where the data is not the very bytes, the body that a received event came with.
ALTER TABLE events
    ADD COLUMN content_type text,
    ADD COLUMN raw bytea,
    DROP CONSTRAINT events_source_check,
    ADD CONSTRAINT events_source_check CHECK (source BETWEEN 0 AND 2) NOT VALID;
DO $$ DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT 'events'::regclass UNION ALL
                SELECT inhrelid FROM pg_inherits WHERE inhparent = 'events'::regclass AND NOT inhdetachpending
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN raw SET COMPRESSION lz4', part);
    END LOOP;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;
