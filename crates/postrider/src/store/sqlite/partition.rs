//! Day partitions: history lives in one set of tables per UTC day, so that retention drops tables and not rows.
//!
//! A row belongs to the day of its own number ([`Day::of_number`]), so an id alone names its table. Idempotency keys
//! and rollups have days of their own because they are kept for other spans.

use rusqlite::{Connection, params};

use crate::store::Result;
use crate::store::day::Day;

/// What is kept by day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Events, finished deliveries, earlier attempts, received requests and the log of public routes.
    History,
    /// Idempotency keys of publishers.
    Keys,
    Rollups,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::History, Kind::Keys, Kind::Rollups];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::History => "history",
            Kind::Keys => "keys",
            Kind::Rollups => "rollups",
        }
    }

    /// The tables of one day, children first, each with the columns of its key.
    pub(super) fn tables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Kind::History => {
                &[("attempts", "n"), ("deliveries", "n"), ("received", "n"), ("events", "n"), ("route_log", "n")]
            }
            Kind::Keys => &[("keys", "tenant, key")],
            Kind::Rollups => &[("rollups", "subject, bucket")],
        }
    }

    fn schema(self, day: Day) -> String {
        let template = match self {
            Kind::History => HISTORY,
            Kind::Keys => KEYS,
            Kind::Rollups => ROLLUPS,
        };
        template.replace("{day}", &day.suffix())
    }
}

const HISTORY: &str = "
CREATE TABLE events_{day} (
    n               INTEGER PRIMARY KEY,
    entropy         INTEGER NOT NULL,
    tenant          BLOB NOT NULL CHECK (length(tenant) = 16),
    type            TEXT NOT NULL,
    fanout          INTEGER NOT NULL,
    source          INTEGER NOT NULL CHECK (source BETWEEN 0 AND 5),
    occurred_at     INTEGER,
    external_id     TEXT,
    idempotency_key TEXT,
    ordering_key    TEXT,
    trace_parent    TEXT,
    data            TEXT NOT NULL,
    content_type    TEXT,
    raw             BLOB
) STRICT;
CREATE INDEX events_{day}_tenant ON events_{day} (tenant, n);
CREATE UNIQUE INDEX events_{day}_external ON events_{day} (external_id, tenant) WHERE external_id IS NOT NULL;

CREATE TABLE deliveries_{day} (
    n               INTEGER PRIMARY KEY,
    event           INTEGER NOT NULL,
    entropy         INTEGER NOT NULL,
    tenant          BLOB NOT NULL CHECK (length(tenant) = 16),
    webhook         BLOB NOT NULL CHECK (length(webhook) = 16),
    type            TEXT NOT NULL,
    status          INTEGER NOT NULL CHECK (status BETWEEN 1 AND 3),
    trigger         INTEGER NOT NULL CHECK (trigger BETWEEN 0 AND 3),
    replay          BLOB CHECK (length(replay) = 16),
    attempts        INTEGER NOT NULL,
    finished_at     INTEGER NOT NULL,
    attempt         INTEGER,
    attempt_at      INTEGER,
    duration_ms     INTEGER,
    http_status     INTEGER,
    error_class     INTEGER,
    error_detail    TEXT,
    address         TEXT,
    response_headers TEXT,
    response_body   TEXT
) STRICT;
CREATE INDEX deliveries_{day}_webhook ON deliveries_{day} (webhook, n, status);
CREATE INDEX deliveries_{day}_bad ON deliveries_{day} (webhook, n, status) WHERE status <> 1;
CREATE INDEX deliveries_{day}_all_bad ON deliveries_{day} (n, status) WHERE status <> 1;
CREATE INDEX deliveries_{day}_late ON deliveries_{day} (event, n) WHERE n - event > 1000;

CREATE TABLE attempts_{day} (
    n               INTEGER PRIMARY KEY,
    delivery        INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    attempt_at      INTEGER NOT NULL,
    duration_ms     INTEGER NOT NULL,
    http_status     INTEGER,
    error_class     INTEGER,
    error_detail    TEXT,
    address         TEXT,
    response_headers TEXT,
    response_body   TEXT,
    UNIQUE (delivery, attempt)
) STRICT;

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

CREATE TABLE route_log_{day} (
    n      INTEGER PRIMARY KEY,
    tenant BLOB NOT NULL CHECK (length(tenant) IN (0, 16)),
    route  TEXT NOT NULL,
    failed INTEGER NOT NULL CHECK (failed IN (0, 1)),
    body   TEXT NOT NULL
) STRICT;
CREATE INDEX route_log_{day}_route ON route_log_{day} (route, n);
CREATE INDEX route_log_{day}_tenant ON route_log_{day} (tenant, n);
";

const KEYS: &str = "
CREATE TABLE keys_{day} (
    tenant BLOB NOT NULL CHECK (length(tenant) = 16),
    key    TEXT NOT NULL,
    event  INTEGER NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
";

const ROLLUPS: &str = "
CREATE TABLE rollups_{day} (
    subject    BLOB NOT NULL CHECK (length(subject) IN (0, 16)),
    bucket     INTEGER NOT NULL,
    succeeded  INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    canceled   INTEGER NOT NULL,
    codes      TEXT NOT NULL CHECK (json_valid(codes)),
    latency    BLOB NOT NULL,
    PRIMARY KEY (subject, bucket)
) STRICT, WITHOUT ROWID;
";

/// Creates the tables of a day if they are not there.
pub(super) fn create(conn: &Connection, kind: Kind, day: Day) -> Result<()> {
    let added = conn
        .prepare_cached("INSERT OR IGNORE INTO days (kind, day) VALUES (?, ?)")?
        .execute(params![kind.name(), day.0])?;
    if added == 1 {
        conn.execute_batch(&kind.schema(day))?;
    }
    Ok(())
}

/// The days that have tables, oldest first. Read in the same transaction as the tables themselves, it is exact.
pub(super) fn days(conn: &Connection, kind: Kind) -> Result<Vec<Day>> {
    let mut statement = conn.prepare_cached("SELECT day FROM days WHERE kind = ? ORDER BY day")?;
    let days = statement.query_map([kind.name()], |row| row.get(0).map(Day))?;
    Ok(days.collect::<Result<_, _>>()?)
}

pub(super) fn exists(conn: &Connection, kind: Kind, day: Day) -> Result<bool> {
    let mut statement = conn.prepare_cached("SELECT 1 FROM days WHERE kind = ? AND day = ?")?;
    Ok(statement.exists(params![kind.name(), day.0])?)
}

/// Drops the tables of a day.
pub(super) fn drop_day(conn: &Connection, kind: Kind, day: Day) -> Result<()> {
    for (table, _) in kind.tables() {
        conn.execute_batch(&format!("DROP TABLE {table}_{}", day.suffix()))?;
    }
    conn.execute("DELETE FROM days WHERE kind = ? AND day = ?", params![kind.name(), day.0])?;
    Ok(())
}
