CREATE TABLE route_log_{day} (
    n      INTEGER PRIMARY KEY,
    tenant BLOB NOT NULL CHECK (length(tenant) IN (0, 16)),
    route  TEXT NOT NULL,
    failed INTEGER NOT NULL CHECK (failed IN (0, 1)),
    body   TEXT NOT NULL
) STRICT;
CREATE INDEX route_log_{day}_route ON route_log_{day} (route, n);
CREATE INDEX route_log_{day}_tenant ON route_log_{day} (tenant, n);
