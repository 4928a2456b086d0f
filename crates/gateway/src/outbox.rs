//! The transactional outbox: changes made by any program become events, in the same transaction as the change.
//!
//! [`install`] creates the table `public.postrider_outbox` in a client's PostgreSQL and, per chosen table, triggers that
//! write each change to it. A change that rolls back leaves nothing behind. [`drain`] takes rows out and hands them to a
//! callback, in batches; rows are deleted after the callback has returned, so that each arrives at least once, and with
//! its id, by which a repeated one can be told.
//!
//! **Nothing is skipped.** What was handed over is known by being gone, not by a number that was reached: a transaction
//! that drew its numbers early and commits late is read when it has committed, whatever has gone before.
//!
//! **Order.** What can be seen is handed over by id. Two changes of one key cannot run at a time: the second waits for the
//! row lock of the first, or for its entry in the index of the primary key, and draws its id when it has it. By then the
//! first has committed, so whoever sees the second sees the first, with a lower id. The same holds for whatever a
//! transaction writes because of what it has read, and between `TRUNCATE` and everything else of its table. An update that
//! changes a key is a deletion of the old one and an insertion of the new. Transactions that have nothing to do with each
//! other come in either order, and none waits for another.
//!
//! **One drainer at a time**, by an advisory lock of its session: a second one waits. A drainer whose connection is lost
//! makes a new one, and competes for the lock again. Each drainer, one that waits included, has a connection of its own
//! beside those of the client's pool. A drainer that does not know yet that it has lost its lock may hand over what its
//! successor hands over too; both begin with the oldest, so that nothing overtakes.
//!
//! **Nothing blocks the queue.** What cannot be told is left out: a row that is too large or no JSON of ours, or, where the
//! database holds text that is no text, whatever is not.

mod install;

use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use crate::json::Json;
use crate::limits::{OUTBOX_BATCH_BYTES_MAX, OUTBOX_BATCH_ROWS_MAX, OUTBOX_COUNT_MAX, OUTBOX_ROW_BYTES_MAX};
use crate::postgres::connection::Connection;
use crate::postgres::failure::{self, Asked};
use crate::settings::Settings;
use crate::uri::{Server, Target, Uri};
use crate::{Code, Fault};

pub use self::install::{check, install, install_exactly, installed, uninstall, uninstall_triggers};

/// Looks without having been notified.
const POLL: Duration = Duration::from_secs(1);
/// After a failure of the database or of the callback.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often a complaint that stays the same is told.
const COMPLAIN: Duration = Duration::from_secs(60);
/// How often the whole outbox is looked at.
const LOOK_AT_ALL: Duration = Duration::from_secs(60);
/// Of the advisory lock: the letters "post" and "outb".
const LOCK: (i32, i32) = (0x706f_7374, 0x6f75_7462);
/// Of the lock that a drainer has while it sleeps: "post" and "idle".
const ASLEEP: (i32, i32) = (0x706f_7374, 0x6964_6c65);
/// Between two looks while somebody writes who will not notify.
const BUSY_FIRST: Duration = Duration::from_millis(10);
const BUSY_MAX: Duration = Duration::from_millis(250);

/// One change.
#[derive(Debug)]
pub struct Change {
    /// Ascending with the order of changes, unique in its database.
    pub id: i64,
    pub schema: String,
    pub table: String,
    pub op: Op,
    /// The primary key: its text, or a JSON array of texts when it has several columns; none of a truncation, and while the
    /// key's columns are no longer those with which the table was installed.
    pub key: Option<String>,
    /// The row as it is now, of a deletion as it was; none of a truncation, of a row beyond [`OUTBOX_ROW_BYTES_MAX`], and
    /// of one that is no JSON here: nested too deep, with half characters, or not in the database's own encoding.
    pub row: Option<Box<RawValue>>,
    /// RFC 3339, by the client's clock.
    pub created_at: String,
}

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl Op {
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Insert => "insert",
            Op::Update => "update",
            Op::Delete => "delete",
            Op::Truncate => "truncate",
        }
    }

    fn parse(name: &str) -> Option<Op> {
        [Op::Insert, Op::Update, Op::Delete, Op::Truncate].into_iter().find(|op| op.as_str() == name)
    }
}

/// What an outbox is at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The tables whose changes are written to it, with their schemas.
    pub tables: Vec<String>,
    /// Changes that have not been handed over; more than [`OUTBOX_COUNT_MAX`] are not counted.
    pub waiting: i64,
    /// How old the oldest of them is.
    pub oldest: Option<Duration>,
}

/// Asks the database what its outbox is at. Where there is none, nothing waits.
///
/// # Errors
/// `backend_unavailable`; `permission_denied`.
pub async fn state(uri: &Uri, settings: &Settings) -> Result<State, Fault> {
    let connection = open(uri, settings).await?;
    let tables = install::names(&connection).await?;
    if !install::exists(&connection).await? {
        return Ok(State { tables, ..State::default() });
    }
    let sql = "SELECT (SELECT count(*) FROM (SELECT FROM public.postrider_outbox LIMIT $1::bigint) AS counted), \
               (SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 FROM public.postrider_outbox \
                ORDER BY id LIMIT 1)";
    let row = connection.client.query_one(sql, &[&OUTBOX_COUNT_MAX]).await.map_err(told)?;
    let oldest = row.get::<_, Option<f64>>(1).map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
    Ok(State { tables, waiting: row.get(0), oldest })
}

/// Takes changes out for as long as it is polled; ends only when it is dropped, which loses nothing. `deliver` answers how
/// many of a batch it has made safe, from the first on; the others come again, after a pause. `name` is for the log.
pub async fn drain<D: Future<Output = usize>>(
    name: &str,
    uri: &Uri,
    settings: &Settings,
    mut deliver: impl FnMut(Vec<Change>) -> D,
) {
    let mut pause = PAUSE_FIRST;
    let mut complained: Option<(String, Instant)> = None;
    loop {
        let mut progressed = false;
        if let Err(fault) = session(uri, settings, &mut deliver, &mut progressed).await {
            let known = complained.as_ref().is_some_and(|(told, at)| *told == fault.message && at.elapsed() < COMPLAIN);
            if progressed || !known {
                tracing::warn!(client = name, code = %fault.code, "the outbox is not drained: {}", fault.message);
                complained = Some((fault.message, Instant::now()));
            }
        }
        pause = if progressed { PAUSE_FIRST } else { (pause * 2).min(PAUSE_MAX) };
        tokio::time::sleep(pause).await;
    }
}

/// Drains over one connection until something fails.
async fn session<D: Future<Output = usize>>(
    uri: &Uri,
    settings: &Settings,
    deliver: &mut impl FnMut(Vec<Change>) -> D,
    progressed: &mut bool,
) -> Result<(), Fault> {
    let connection = open(uri, settings).await?;
    // Some servers cannot; then a node that lost its power keeps the lock for as long as its operating system has it.
    let _refused = connection.client.batch_execute(SIGNS_OF_LIFE).await;
    let lock = "SELECT pg_try_advisory_lock($1, $2)";
    while !connection.client.query_one(lock, &[&LOCK.0, &LOCK.1]).await.map_err(told)?.get::<_, bool>(0) {
        tokio::time::sleep(POLL).await;
    }
    connection.client.batch_execute("LISTEN postrider_outbox").await.map_err(told)?;
    let mut pause = PAUSE_FIRST;
    let mut floor = Floor::new();
    let mut rest = Rest::new(&connection);
    loop {
        let batch = next(&connection, floor.above()).await?;
        let Some(first) = batch.changes.first() else {
            rest.take().await?;
            continue;
        };
        rest.end().await?;
        floor.seen(first.id, batch.oldest_running);
        let ids: Vec<i64> = batch.changes.iter().map(|change| change.id).collect();
        let safe = deliver(batch.changes).await.min(ids.len());
        if let Some(last) = safe.checked_sub(1).map(|at| ids[at]) {
            let sql = "WITH gone AS (DELETE FROM public.postrider_outbox WHERE id = ANY ($1)) \
                       SELECT pg_current_xact_id()::text::bigint";
            let row = connection.client.query_one(sql, &[&&ids[..safe]]).await.map_err(told)?;
            floor.gone(last, row.get(0));
            *progressed = true;
            pause = PAUSE_FIRST;
        }
        if safe < ids.len() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// What a drainer does when there is nothing to do. Whoever writes down a change notifies if the drainer is asleep, which he
/// sees by a lock that the drainer has then; else he has a share of that lock until his transaction ends, and the drainer
/// cannot fall asleep. So notifications, which make commits take turns, are rare when many write.
struct Rest<'a> {
    connection: &'a Connection,
    is_asleep: bool,
    busy: Duration,
}

impl<'a> Rest<'a> {
    fn new(connection: &'a Connection) -> Rest<'a> {
        Rest { connection, is_asleep: false, busy: BUSY_FIRST }
    }

    /// Returns when it is time to look again.
    async fn take(&mut self) -> Result<(), Fault> {
        if self.is_asleep {
            // The look by the clock finds what a lost notification would have told.
            let _notified = tokio::time::timeout(POLL, self.connection.notified.notified()).await;
            return Ok(());
        }
        let sql = "SELECT pg_try_advisory_lock($1, $2)";
        let row = self.connection.client.query_one(sql, &[&ASLEEP.0, &ASLEEP.1]).await.map_err(told)?;
        self.is_asleep = row.get(0);
        // Once asleep, one more look: for what was committed since the last one.
        if !self.is_asleep {
            tokio::time::sleep(self.busy).await;
            self.busy = (self.busy * 2).min(BUSY_MAX);
        }
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Fault> {
        self.busy = BUSY_FIRST;
        if std::mem::take(&mut self.is_asleep) {
            let sql = "SELECT pg_advisory_unlock($1, $2)";
            self.connection.client.execute(sql, &[&ASLEEP.0, &ASLEEP.1]).await.map_err(told)?;
        }
        Ok(())
    }
}

/// Up to which id nothing is there any more, nor will be: so that what was deleted, and cannot be cleared away while some
/// transaction could still see it, need not be walked over at every look.
///
/// A transaction that drew an id before one that was read had its own number by then, a lower one than the transaction that
/// deletes what was read. When all of those have ended, whatever they wrote can be seen.
#[derive(Debug)]
struct Floor {
    above: i64,
    /// The last id that was deleted, and the number of the transaction that did.
    mark: Option<(i64, i64)>,
    since: Instant,
}

impl Floor {
    fn new() -> Floor {
        Floor { above: i64::MIN, mark: None, since: Instant::now() }
    }

    /// Where to look from. Now and then from the very beginning: somebody may have put a row in by hand, or set the sequence
    /// back.
    fn above(&mut self) -> i64 {
        if self.since.elapsed() >= LOOK_AT_ALL {
            *self = Floor::new();
        }
        self.above
    }

    /// The first id that was found, by a look at which no transaction before `oldest_running` was at work any more.
    fn seen(&mut self, first: i64, oldest_running: i64) {
        if let Some((last, deleter)) = self.mark
            && oldest_running > deleter
        {
            self.above = self.above.max(last.min(first - 1));
            self.mark = None;
        }
    }

    fn gone(&mut self, last: i64, deleter: i64) {
        // An earlier mark is confirmed earlier.
        self.mark.get_or_insert((last, deleter));
    }
}

#[derive(Debug)]
struct Batch {
    changes: Vec<Change>,
    /// Transactions with lower numbers had ended; 0 if nothing was found.
    oldest_running: i64,
}

/// How much of a change is read: less when its text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Telling {
    Whole,
    WithoutRow,
    /// With names and key as the bytes that they are, in `\ooo`.
    Escaped,
}

/// The oldest changes. One whose text cannot be read is handed over alone, with as much of it as can be.
async fn next(connection: &Connection, above: i64) -> Result<Batch, Fault> {
    let mut rows = OUTBOX_BATCH_ROWS_MAX;
    let mut telling = Telling::Whole;
    loop {
        if let Some(batch) = look(connection, above, rows, telling).await? {
            return Ok(batch);
        }
        match telling {
            _ if rows > 1 => rows /= 2,
            Telling::Whole => telling = Telling::WithoutRow,
            Telling::WithoutRow => telling = Telling::Escaped,
            Telling::Escaped => return Err(strange()),
        }
    }
}

/// `None`: there is text that is none.
async fn look(connection: &Connection, above: i64, most: i64, telling: Telling) -> Result<Option<Batch>, Fault> {
    let sql = if telling == Telling::Escaped { NEXT_ESCAPED } else { NEXT };
    let (statement, _) = connection.prepare(sql).await.map_err(told)?;
    let with_row = if telling == Telling::Whole { OUTBOX_ROW_BYTES_MAX } else { -1 };
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] = [&most, &with_row, &OUTBOX_BATCH_BYTES_MAX, &above];
    match connection.client.query(&statement, &params).await {
        Ok(rows) => {
            let oldest_running = rows.first().map_or(0, |row| row.get(7));
            let changes: Option<Vec<Change>> = rows.iter().map(change).collect();
            Ok(changes.map(|changes| Batch { changes, oldest_running }))
        }
        Err(error) if error.code().is_some_and(|code| code.code().starts_with("22")) => Ok(None),
        Err(error) => Err(told(error)),
    }
}

/// Lengths are known without reading what is long.
const NEXT: &str = r#"
    SELECT id, schema_name, table_name, op, key, row_text, created_text,
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM (
        SELECT *, sum(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM (
            SELECT id, schema_name, table_name, op, key,
                   CASE WHEN octet_length("row") <= $2::bigint THEN "row" END AS row_text,
                   CASE WHEN octet_length("row") <= $2::bigint THEN octet_length("row") ELSE 0 END
                       + coalesce(octet_length(key), 0) AS bytes,
                   coalesce(to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '') AS created_text
            FROM public.postrider_outbox WHERE id > $4::bigint ORDER BY id LIMIT $1::bigint
        ) AS oldest
    ) AS measured
    WHERE bytes_before < $3::bigint ORDER BY id"#;

/// As [`NEXT`], one that no encoding can spoil.
const NEXT_ESCAPED: &str = r#"
    SELECT id, encode(convert_to(schema_name, getdatabaseencoding()), 'escape'),
           encode(convert_to(table_name, getdatabaseencoding()), 'escape'), op,
           encode(convert_to(key, getdatabaseencoding()), 'escape'), NULL::text,
           coalesce(to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), ''),
           pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    FROM public.postrider_outbox WHERE $2::bigint < $3::bigint AND id > $4::bigint ORDER BY id LIMIT $1::bigint"#;

fn change(row: &tokio_postgres::Row) -> Option<Change> {
    let text: Option<String> = row.try_get(5).ok()?;
    // A row that cannot be handed over must not hold back all others.
    let text = text.and_then(|text| Some(Json::parse(text.as_bytes()).ok()?.as_raw().to_owned()));
    Some(Change {
        id: row.try_get(0).ok()?,
        schema: row.try_get(1).ok()?,
        table: row.try_get(2).ok()?,
        op: Op::parse(row.try_get(3).ok()?)?,
        key: row.try_get(4).ok()?,
        row: text,
        created_at: row.try_get(6).ok()?,
    })
}

/// What is somebody else's in the search path of a login does not run with its rights.
const PATH: &str = "SET search_path = pg_catalog, pg_temp";

/// The other end notices within seconds that we are gone, and lets go of the lock.
const SIGNS_OF_LIFE: &str = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; \
     SET tcp_user_timeout = 10000";

async fn open(uri: &Uri, settings: &Settings) -> Result<Connection, Fault> {
    let server = server(uri)?;
    let connection = Connection::open(server, settings.connect_timeout, settings.statement_timeout).await?;
    connection.client.batch_execute(PATH).await.map_err(told)?;
    Ok(connection)
}

/// Begins a change of what is installed. Those who change it at the same time take turns: PostgreSQL would refuse one of
/// them. And programs that write to a table must not wait for long behind one who waits for it.
async fn begin(connection: &Connection) -> Result<(), Fault> {
    // The letters "post" and "inst".
    let sql = "BEGIN; SELECT pg_advisory_xact_lock(1886352244, 1768846196); SET LOCAL lock_timeout = '5s'";
    connection.client.batch_execute(sql).await.map_err(told)
}

fn server(uri: &Uri) -> Result<&Server, Fault> {
    match uri.target() {
        Target::Postgres(server) => Ok(server),
        Target::Sqlite(_) => {
            Err(Fault::new(Code::StatementNotAllowed, "Only a client on PostgreSQL can have an outbox."))
        }
    }
}

fn told(error: tokio_postgres::Error) -> Fault {
    failure::fault(&error, Asked::Query)
}

fn strange() -> Fault {
    Fault::new(Code::QuerySqlExecutionFailed, "The table of the outbox is not as it was made.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_rises_when_nobody_can_write_below_it_any_more() {
        let mut floor = Floor::new();
        floor.seen(1, 100);
        floor.gone(10, 105);
        floor.seen(11, 105);
        assert_eq!(floor.above(), i64::MIN, "the deleter itself had not ended, or another one before it");
        floor.gone(20, 110);
        floor.seen(21, 106);
        assert_eq!(floor.above(), 10, "the second deletion does not put off the first");
        floor.gone(30, 120);
        floor.seen(25, 121);
        assert_eq!(floor.above(), 24, "what came late is not passed over");
        floor.seen(40, 200);
        assert_eq!(floor.above(), 24, "without a deletion nothing is known");
    }

    #[test]
    fn the_whole_outbox_is_looked_at_now_and_then() {
        let mut floor = Floor::new();
        floor.gone(10, 105);
        floor.seen(11, 106);
        assert_eq!(floor.above(), 10);
        floor.since = Instant::now().checked_sub(LOOK_AT_ALL).expect("the machine runs for longer");
        assert_eq!(floor.above(), i64::MIN);
    }
}
