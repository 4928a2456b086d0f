//! Day partitions: history lives in one set of tables per UTC day, so that retention drops tables and not rows.
//!
//! A row belongs to the day of its own number ([`Day::of_number`]), so an id alone names its table. Idempotency keys
//! and rollups have days of their own because they are kept for other spans.

use postrider_core::ids::Sequence;
use postrider_core::time::UnixMs;
use rusqlite::{Connection, params};

use crate::store::Result;

pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// First deliveries of an event have numbers up to this far above it; every later one (replay) is further away.
pub(super) const FIRST_SPAN: i64 = 1000;

/// A UTC day, counted from the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Day(pub(super) i64);

impl Day {
    pub(super) fn of(at: UnixMs) -> Day {
        Day(at.0.div_euclid(DAY_MS))
    }

    pub(super) fn of_number(n: i64) -> Day {
        Day::of(Sequence::time(n))
    }

    pub(super) fn start(self) -> UnixMs {
        UnixMs(self.0 * DAY_MS)
    }

    /// The least number that belongs to this day.
    pub(super) fn first_number(self) -> i64 {
        Sequence::floor(self.start())
    }

    /// The least number that belongs to the next day.
    pub(super) fn end_number(self) -> i64 {
        Day(self.0 + 1).first_number()
    }

    pub(super) fn minus(self, days: u32) -> Day {
        Day(self.0 - i64::from(days))
    }

    pub(super) fn next(self) -> Day {
        Day(self.0 + 1)
    }

    /// Such as `20261121`: the suffix of its tables.
    pub(super) fn suffix(self) -> String {
        let start = jiff::Timestamp::from_millisecond(self.start().0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let date = start.to_zoned(jiff::tz::TimeZone::UTC).date();
        format!("{:04}{:02}{:02}", date.year(), date.month(), date.day())
    }
}

/// What is kept by day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Events, finished deliveries and earlier attempts.
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
            Kind::History => &[("attempts", "n"), ("deliveries", "n"), ("events", "n")],
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
    source          INTEGER NOT NULL CHECK (source IN (0, 1)),
    occurred_at     INTEGER,
    external_id     TEXT,
    idempotency_key TEXT,
    ordering_key    TEXT,
    trace_parent    TEXT,
    data            TEXT NOT NULL
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
    status          INTEGER NOT NULL CHECK (status IN (1, 2, 3)),
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
