//! The tables of a day. A partition is made on its own and then attached, which disturbs nobody who uses the others.

use std::collections::HashSet;

use deadpool_postgres::Object;
use parking_lot::Mutex;
use postrider_core::time::UnixMs;
use tokio_postgres::types::Type;

use super::Node;
use crate::store::Result;
use crate::store::day::Day;

/// Held by whoever makes or drops tables of a day.
const LOCK: i64 = 7_305_790_000_003;

/// What is kept by day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Events, received requests, finished deliveries, earlier attempts and the log of public routes, by their numbers.
    History,
    /// Idempotency keys and external ids, by the day on which they count.
    Keys,
    /// Rollups, by the start of their bucket.
    Rollups,
}

impl Kind {
    pub(super) const ALL: [Kind; 3] = [Kind::History, Kind::Keys, Kind::Rollups];

    /// Its tables, what refers to others first.
    pub(super) fn tables(self) -> &'static [&'static str] {
        match self {
            Kind::History => &["attempts", "deliveries", "received", "events", "route_log"],
            Kind::Keys => &["keys"],
            Kind::Rollups => &["rollups"],
        }
    }

    /// The values of the partition key on `day`: from, and before.
    fn range(self, day: Day) -> (i64, i64) {
        match self {
            Kind::History => (day.first_number(), day.end_number()),
            Kind::Keys => (day.0, day.0 + 1),
            Kind::Rollups => (day.start().0, day.next().start().0),
        }
    }

    /// Makes and attaches the tables of `day` that are missing.
    fn schema(self, day: Day) -> String {
        let (from, before) = self.range(day);
        let make = |table: &&str| {
            let name = format!("{table}_{}", day.suffix());
            format!(
                "IF to_regclass('{name}') IS NULL THEN \
                     CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE \
                                          INCLUDING COMPRESSION); \
                     ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({before}); \
                 END IF; "
            )
        };
        self.tables().iter().map(make).collect()
    }
}

/// The days that are known to have their tables.
#[derive(Debug, Default)]
pub(super) struct Days(Mutex<HashSet<(Kind, Day)>>);

impl Days {
    pub(super) fn forget(&self) {
        self.0.lock().clear();
    }
}

impl Node {
    /// Sees to it that today and tomorrow have their tables. Costs nothing when they are known to.
    pub(super) async fn ensure_days(&self, now: UnixMs) -> Result<()> {
        let today = Day::of(now);
        let both = [today, today.next()];
        let wanted = Kind::ALL.into_iter().flat_map(|kind| both.map(|day| (kind, day)));
        self.ensure(wanted.collect()).await
    }

    /// Sees to it that the given days have their tables.
    pub(super) async fn ensure(&self, wanted: Vec<(Kind, Day)>) -> Result<()> {
        let missing: Vec<(Kind, Day)> = {
            let known = self.days.0.lock();
            wanted.into_iter().filter(|one| !known.contains(one)).collect()
        };
        if missing.is_empty() {
            return Ok(());
        }
        let schema: String = missing.iter().map(|(kind, day)| kind.schema(*day)).collect();
        let client = self.reader().await?;
        // One transaction, whose second statement sees what the former holder of the lock has made.
        client.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK}); DO $$ BEGIN {schema} END $$;")).await?;
        self.days.0.lock().extend(missing);
        Ok(())
    }

    /// After a row found no table of its day: makes those of the day that numbers have reached.
    pub(super) async fn make_missing_days(&self) -> Result<()> {
        let client = self.reader().await?;
        let row = client.query_typed_one("SELECT last_value FROM numbers", &[]).await?;
        drop(client);
        let day = Day::of_number(row.try_get(0)?);
        self.days.forget();
        self.ensure(vec![(Kind::History, day), (Kind::History, day.next())]).await
    }
}

/// The days that have tables, attached or not, oldest first. A node of an older version leaves tables behind that it does
/// not know, so any one counts.
pub(super) async fn days(client: &Object, kind: Kind) -> Result<Vec<Day>> {
    Ok(tables_of_days(client, kind).await?.into_iter().map(|(day, _)| day).collect())
}

/// The days that have all their tables.
pub(super) async fn whole_days(client: &Object, kind: Kind) -> Result<Vec<Day>> {
    let all = kind.tables().len() as i64;
    Ok(tables_of_days(client, kind)
        .await?
        .into_iter()
        .filter(|(_, tables)| *tables == all)
        .map(|(day, _)| day)
        .collect())
}

/// How many tables each day has, oldest first.
async fn tables_of_days(client: &Object, kind: Kind) -> Result<Vec<(Day, i64)>> {
    let rows = client
        .query_typed(
            "SELECT to_date(right(relname, 8), 'YYYYMMDD') - date '1970-01-01' AS day, count(*) FROM pg_class \
             WHERE relkind = 'r' AND relname ~ ('^(' || array_to_string($1, '|') || ')_[0-9]{8}$') \
               AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('pending')) \
             GROUP BY day ORDER BY day",
            &[(&kind.tables(), Type::TEXT_ARRAY)],
        )
        .await?;
    rows.iter().map(|row| Ok((Day(i64::from(row.try_get::<_, i32>(0)?)), row.try_get(1)?))).collect()
}

/// Drops a table of a day. It is detached first, without a lock that would hold up those who use other days; this waits
/// for transactions that are older, so it may end with [`Error::Unavailable`](crate::store::Error::Unavailable) and go on
/// with the next call.
pub(super) async fn drop_table(node: &Node, client: &Object, table: &str, day: Day) -> Result<()> {
    node.days.forget();
    let name = format!("{table}_{}", day.suffix());
    let found = client
        .query_typed_opt(
            "SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass($1)",
            &[(&name, Type::TEXT)],
        )
        .await?;
    match found.map(|row| row.try_get::<_, bool>(0)).transpose()? {
        Some(true) => client.batch_execute(&format!("ALTER TABLE {table} DETACH PARTITION {name} FINALIZE")).await?,
        Some(false) => {
            client.batch_execute(&format!("ALTER TABLE {table} DETACH PARTITION {name} CONCURRENTLY")).await?;
        }
        None => {}
    }
    client.batch_execute(&format!("DROP TABLE IF EXISTS {name}")).await?;
    Ok(())
}
