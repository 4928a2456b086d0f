-- Version 3: administration. Only adds, so nodes of version 2 go on beside nodes of this one; they give partners no stream
-- (the next start of a node of this version does) and entries of the audit log no hash.

-- TenantSettings as JSON; NULL: the defaults.
ALTER TABLE tenants ADD COLUMN settings text;
-- The entry's link of the chain (store/chain.rs); NULL: written by a version without one.
ALTER TABLE audit_log ADD COLUMN hash bytea;
-- The stream of each partner: a tenant with the partner's id.
INSERT INTO tenants (id, name, partner, external_id, dialect, created_at, updated_at)
    SELECT id, name, id, NULL, 'standard', created_at, created_at FROM partners ON CONFLICT (id) DO NOTHING;

-- Last, since it waits for whoever reads the table and holds up whoever writes it; nothing is read or rewritten. Events of
-- partners and of the system.
ALTER TABLE events
    DROP CONSTRAINT events_source_check,
    ADD CONSTRAINT events_source_check CHECK (source BETWEEN 0 AND 4) NOT VALID;
