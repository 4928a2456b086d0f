-- Administration. What changes for each day of history that exists is in migrate.rs.

-- TenantSettings as JSON; NULL: the defaults.
ALTER TABLE tenants ADD COLUMN settings TEXT;
-- The entry's link of the chain (store/chain.rs); NULL: written before there was one.
ALTER TABLE audit_log ADD COLUMN hash BLOB;
-- The stream of each partner: a tenant with the partner's id.
INSERT INTO tenants (id, name, partner, external_id, dialect, created_at, updated_at)
    SELECT id, name, id, NULL, 'standard', created_at, created_at FROM partners WHERE true ON CONFLICT (id) DO NOTHING;
