//! Recording outcomes: the half of the hot path that nobody waits for.
//!
//! A batch is one statement, which takes it for granted that every row is still held by this node and counts the
//! statistics of all; it fails when that is not so. Then the batch is recorded in steps, which see what is left and count
//! only that.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

use postrider_core::delivery::{Attempt, AttemptError, DeliveryStatus, Progress};
use postrider_core::ids::WebhookId;
use postrider_core::time::UnixMs;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::query_prepared;
use super::failure::{code_of, retried};
use super::row::clean;
use super::statement::Statement;
use super::{Node, PgStore, tally};
use crate::store::codes::{error_code, status_code, trigger_code};
use crate::store::tally::{End, Tally};
use crate::store::{Recorded, RecordedOutcome, Result};

pub(super) async fn record(store: &PgStore, mut outcomes: Vec<Recorded>, now: UnixMs) -> Result<Vec<bool>> {
    // A node that was taken for dead and got its own delivery back may know two ends of it. One statement cannot: it would
    // fail, and so would every other batch behind it.
    let mut known = HashSet::with_capacity(outcomes.len());
    let is_first: Vec<bool> = outcomes.iter().map(|one| known.insert(one.delivery_id)).collect();
    if known.len() == is_first.len() {
        return record_each(store, &outcomes, now).await;
    }
    let mut firsts = is_first.iter();
    outcomes.retain(|_| firsts.next() == Some(&true));
    let mut recorded = record_each(store, &outcomes, now).await?.into_iter();
    Ok(is_first.into_iter().map(|first| first && recorded.next() == Some(true)).collect())
}

async fn record_each(store: &PgStore, outcomes: &[Recorded], now: UnixMs) -> Result<Vec<bool>> {
    if outcomes.is_empty() {
        return Ok(Vec::new());
    }
    let node = &store.node;
    node.ensure_days(now).await?;
    let columns = Columns::of(outcomes, now)?;
    let recorded = retried!(node, all_at_once(node, outcomes, &columns, now));
    match recorded {
        Ok(()) => Ok(vec![true; outcomes.len()]),
        Err(error) if code_of(&error) == Some(&SqlState::DIVISION_BY_ZERO) => {
            retried!(node, in_steps(node, outcomes, &columns, now))
        }
        Err(error) => Err(error),
    }
}

/// Records all, or fails with a division by zero when not all are held by this node.
async fn all_at_once(node: &Node, outcomes: &[Recorded], columns: &Columns<'_>, now: UnixMs) -> Result<()> {
    let client = node.writer().await?;
    let mut turn = tally::turn(node).await;
    let tally = tally_of(outcomes, |_| true);
    let session = node.session();
    let expected = outcomes.len() as i64;
    let mut statement = Statement::default();
    let parts = columns.add_to(&mut statement, &session, Trust::AllAreHeld);
    let added =
        if tally.is_empty() { None } else { Some(tally::Columns::of(&**client, node, &mut turn, &tally, now).await?) };
    if let Some(added) = &added {
        added.add_to(&mut statement);
    }
    let count = parts.iter().map(|part| format!("(SELECT count(*) FROM {part})")).collect::<Vec<_>>().join(" + ");
    let expected = statement.bind(&expected, Type::INT8);
    let (parked, me) = (parked_of(&parts), statement.bind(&session, Type::INT4));
    let sql = statement.sql(&format!(
        "SELECT 1 / (({count}) = {expected})::integer, NULL::uuid UNION ALL SELECT * FROM ({parked}) AS p WHERE owner <> {me}"
    ));
    let result = query_prepared(node, &client, &sql, statement.parameters()).await;
    drop(statement);
    let rows = match result {
        Ok(rows) => rows,
        Err(error) => {
            tally::forget(&mut turn);
            return Err(error.into());
        }
    };
    if let Some(added) = added {
        added.committed(&mut turn);
    }
    wake_owners(node, rows.iter().skip(1).map(|row| Ok((row.try_get(0)?, row.try_get(1)?))))
}

/// Records what is still held by this node; tells what was.
async fn in_steps(node: &Node, outcomes: &[Recorded], columns: &Columns<'_>, now: UnixMs) -> Result<Vec<bool>> {
    let mut client = node.writer().await?;
    let mut turn = tally::turn(node).await;
    let tx = client.transaction().await?;
    let session = node.session();
    let mut statement = Statement::default();
    let parts = columns.add_to(&mut statement, &session, Trust::Nothing);
    let all = parts.iter().map(|part| format!("SELECT at FROM {part}")).collect::<Vec<_>>().join(" UNION ALL ");
    let rows = tx.query_typed(&statement.sql(&all), statement.parameters()).await?;
    let mut done = vec![false; outcomes.len()];
    for row in rows {
        let at = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(usize::MAX);
        if let Some(done) = done.get_mut(at) {
            *done = true;
        }
    }
    let tally = tally_of(outcomes, |at| done[at]);
    let added = tally::write(&*tx, node, &mut turn, &tally, now).await;
    let committed = match added {
        Ok(added) => tx.commit().await.map(|()| added).map_err(Into::into),
        Err(error) => Err(error),
    };
    match committed {
        Ok(added) => {
            if let Some(added) = added {
                added.committed(&mut turn);
            }
            Ok(done)
        }
        Err(error) => {
            tally::forget(&mut turn);
            Err(error)
        }
    }
}

fn end_of(outcome: &RecordedOutcome) -> Option<End> {
    match outcome {
        RecordedOutcome::Succeeded => Some(End::Succeeded),
        RecordedOutcome::Failed => Some(End::Failed),
        RecordedOutcome::Canceled { .. } => Some(End::Canceled),
        RecordedOutcome::Retry { .. } | RecordedOutcome::Release { .. } => None,
    }
}

fn tally_of(outcomes: &[Recorded], counts: impl Fn(usize) -> bool) -> Tally {
    let mut tally = Tally::default();
    for (at, one) in outcomes.iter().enumerate() {
        if counts(at) && !matches!(one.outcome, RecordedOutcome::Release { .. }) {
            tally.add(one.tenant_id, one.webhook_id, one.trigger, one.attempt.as_ref(), end_of(&one.outcome));
        }
    }
    tally
}

fn parked_of(parts: &[&str]) -> String {
    let parked: Vec<String> = parts
        .iter()
        .filter(|part| [RETRIED, RELEASED].contains(part))
        .map(|part| format!("SELECT owner, webhook FROM {part}"))
        .collect();
    if parked.is_empty() {
        "SELECT 0 AS owner, NULL::uuid AS webhook WHERE false".to_owned()
    } else {
        parked.join(" UNION ALL ")
    }
}

/// Tells the homes of what was parked for them.
fn wake_owners(node: &Node, rows: impl Iterator<Item = Result<(i32, Uuid)>>) -> Result<()> {
    let mut owners: BTreeMap<i32, BTreeSet<WebhookId>> = BTreeMap::new();
    for row in rows {
        let (owner, webhook) = row?;
        owners.entry(owner).or_default().insert(WebhookId(webhook));
    }
    for (owner, webhooks) in owners {
        node.wake(owner, webhooks);
    }
    Ok(())
}

/// Whether a statement may go by what it has looked up, because it fails if not all of that is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    AllAreHeld,
    Nothing,
}

/// Rows taken out of the queue, by number; and those of them with all that is to be kept.
const GONE: &str = "gone";
const FINISHED: &str = "finished";
const RETRIED: &str = "retried";
const RELEASED: &str = "released";

/// A batch as columns.
#[derive(Debug, Default)]
struct Columns<'a> {
    finished: Finished<'a>,
    retried: Retries<'a>,
    released: Releases,
}

impl<'a> Columns<'a> {
    fn of(outcomes: &'a [Recorded], now: UnixMs) -> Result<Columns<'a>> {
        let mut columns = Columns::default();
        for (at, one) in outcomes.iter().enumerate() {
            let at = i32::try_from(at).map_err(anyhow::Error::new)?;
            match &one.outcome {
                RecordedOutcome::Succeeded => columns.finished.add(at, one, DeliveryStatus::Succeeded, None, now)?,
                RecordedOutcome::Failed => columns.finished.add(at, one, DeliveryStatus::Failed, None, now)?,
                RecordedOutcome::Canceled { error } => {
                    columns.finished.add(at, one, DeliveryStatus::Canceled, Some(error), now)?;
                }
                RecordedOutcome::Retry { due_at, progress } => columns.retried.add(at, one, *due_at, *progress),
                RecordedOutcome::Release { due_at } => {
                    columns.released.rows.add(at, one);
                    columns.released.due_at.push(due_at.0);
                }
            }
        }
        Ok(columns)
    }

    /// Adds what there is to `statement`; the names of the tables with `at`, one row for each outcome that was recorded.
    fn add_to<'s>(&'s self, statement: &mut Statement<'s>, session: &'s i32, trust: Trust) -> Vec<&'static str> {
        let me = statement.bind(session, Type::INT4);
        let mut parts = Vec::new();
        if !self.finished.rows.at.is_empty() {
            parts.push(self.finished.add_to(statement, &me, trust));
        }
        if !self.retried.rows.at.is_empty() {
            self.retried.add_to(statement, &me);
            parts.push(RETRIED);
        }
        if !self.released.rows.at.is_empty() {
            self.released.add_to(statement, &me);
            parts.push(RELEASED);
        }
        parts
    }
}

/// Which rows of the queue.
#[derive(Debug, Default)]
struct Keys {
    /// Place in the batch.
    at: Vec<i32>,
    tenant: Vec<Uuid>,
    webhook: Vec<Uuid>,
    n: Vec<i64>,
}

impl Keys {
    fn add(&mut self, at: i32, one: &Recorded) {
        self.at.push(at);
        self.tenant.push(one.tenant_id.0);
        self.webhook.push(one.webhook_id.0);
        self.n.push(one.delivery_id.0);
    }

    fn bind<'a>(&'a self, statement: &mut Statement<'a>) -> Vec<String> {
        vec![
            statement.bind(&self.at, Type::INT4_ARRAY),
            statement.bind(&self.tenant, Type::UUID_ARRAY),
            statement.bind(&self.webhook, Type::UUID_ARRAY),
            statement.bind(&self.n, Type::INT8_ARRAY),
        ]
    }
}

/// The rows of the queue that are meant and held by this node, with their place in the table. Each is looked up by its
/// key: the queue changes so fast that the planner, left to choose a join, may read all of it, dead rows included, or
/// compare every row with every other.
fn held(arrays: &str, columns: &str, me: &str) -> String {
    format!(
        "SELECT o.*, x.place FROM unnest({arrays}) AS o ({columns}) CROSS JOIN LATERAL ( \
             SELECT q.ctid AS place FROM pending q WHERE q.tenant = o.tenant AND q.webhook = o.webhook AND q.n = o.n \
                AND q.owner + 0 = {me} AND q.due_at IS NULL OFFSET 0) x"
    )
}

/// Somebody may have taken it over since it was looked up.
fn still_held(me: &str) -> String {
    format!("p.owner + 0 = {me} AND p.due_at IS NULL")
}

/// What is parked goes to the webhook's home, if it has one.
const TO_ITS_HOME: &str =
    "owner = coalesce((SELECT h.owner FROM homes h WHERE h.webhook = p.webhook AND h.owner <> 0), p.owner)";

/// Columns of attempts.
#[derive(Debug, Default)]
pub(super) struct Attempts<'a> {
    number: Vec<Option<i32>>,
    attempt_at: Vec<Option<i64>>,
    duration_ms: Vec<Option<i32>>,
    http_status: Vec<Option<i16>>,
    error_class: Vec<Option<i16>>,
    error_detail: Vec<Option<Cow<'a, str>>>,
    address: Vec<Option<String>>,
    headers: Vec<Option<String>>,
    /// Bytes, since it may hold NUL, which PostgreSQL's text cannot.
    body: Vec<Option<&'a [u8]>>,
}

/// Their names, in the order in which they are bound.
pub(super) const ATTEMPT: &str = "attempt, attempt_at, duration_ms, http_status, error_class, error_detail, address, response_headers, response_body";

impl<'a> Attempts<'a> {
    /// An attempt, or only why there is none.
    pub(super) fn add(&mut self, attempt: Option<&'a Attempt>, ended: Option<&'a AttemptError>) {
        let response = attempt.and_then(|attempt| attempt.response.as_ref());
        let headers = response.filter(|response| !response.headers.is_empty());
        let error = attempt.map_or(ended, |attempt| attempt.error.as_ref());
        self.number.push(attempt.map(|attempt| attempt.number.cast_signed()));
        self.attempt_at.push(attempt.map(|attempt| attempt.at.0));
        self.duration_ms.push(attempt.map(|attempt| attempt.duration_ms.cast_signed()));
        self.http_status.push(response.map(|response| response.status.cast_signed()));
        self.error_class.push(error.map(|error| error_code(error.class)));
        self.error_detail.push(error.map(|error| clean(&error.detail)));
        self.address.push(attempt.and_then(|attempt| attempt.remote_address).map(|address| address.to_string()));
        self.headers.push(headers.map(|response| serde_json::json!(response.headers).to_string()));
        self.body.push(response.filter(|response| !response.body.is_empty()).map(|response| response.body.as_bytes()));
    }

    pub(super) fn bind<'s>(&'s self, statement: &mut Statement<'s>) -> Vec<String> {
        vec![
            statement.bind(&self.number, Type::INT4_ARRAY),
            statement.bind(&self.attempt_at, Type::INT8_ARRAY),
            statement.bind(&self.duration_ms, Type::INT4_ARRAY),
            statement.bind(&self.http_status, Type::INT2_ARRAY),
            statement.bind(&self.error_class, Type::INT2_ARRAY),
            statement.bind(&self.error_detail, Type::TEXT_ARRAY),
            statement.bind(&self.address, Type::TEXT_ARRAY),
            statement.bind(&self.headers, Type::TEXT_ARRAY),
            statement.bind(&self.body, Type::BYTEA_ARRAY),
        ]
    }
}

/// Deliveries that move from the queue to history.
#[derive(Debug, Default)]
struct Finished<'a> {
    rows: Keys,
    event: Vec<i64>,
    entropy: Vec<i64>,
    r#type: Vec<&'a str>,
    status: Vec<i16>,
    trigger: Vec<i16>,
    replay: Vec<Option<Uuid>>,
    attempts: Vec<i32>,
    finished_at: i64,
    attempt: Attempts<'a>,
}

impl<'a> Finished<'a> {
    fn add(
        &mut self,
        at: i32,
        one: &'a Recorded,
        status: DeliveryStatus,
        ended: Option<&'a AttemptError>,
        now: UnixMs,
    ) -> Result<()> {
        let event = one.event_id.sequence().ok_or_else(|| anyhow::anyhow!("{} is not of this store", one.event_id))?;
        self.rows.add(at, one);
        self.event.push(event);
        self.entropy.push(one.event_id.entropy().cast_signed());
        self.r#type.push(&one.event_type);
        self.status.push(status_code(status));
        self.trigger.push(trigger_code(one.trigger));
        self.replay.push(one.replay_id.map(|id| id.0));
        self.attempts.push(one.attempts.cast_signed());
        self.finished_at = now.0;
        self.attempt.add(one.attempt.as_ref(), ended);
        Ok(())
    }

    fn add_to<'s>(&'s self, statement: &mut Statement<'s>, me: &str, trust: Trust) -> &'static str {
        let mut arrays = self.rows.bind(statement);
        arrays.extend([
            statement.bind(&self.event, Type::INT8_ARRAY),
            statement.bind(&self.entropy, Type::INT8_ARRAY),
            statement.bind(&self.r#type, Type::TEXT_ARRAY),
            statement.bind(&self.status, Type::INT2_ARRAY),
            statement.bind(&self.trigger, Type::INT2_ARRAY),
            statement.bind(&self.replay, Type::UUID_ARRAY),
            statement.bind(&self.attempts, Type::INT4_ARRAY),
        ]);
        arrays.extend(self.attempt.bind(statement));
        let arrays = arrays.join(", ");
        let finished_at = statement.bind(&self.finished_at, Type::INT8);
        let columns =
            format!("at, tenant, webhook, n, event, entropy, type, status, trigger, replay, attempts, {ATTEMPT}");
        statement.with_whole("ending", held(&arrays, &columns, me));
        let still_held = still_held(me);
        statement.with(
            GONE,
            format!(
                "DELETE FROM pending p WHERE p.ctid = ANY(ARRAY(SELECT place FROM ending)) AND {still_held} \
                 RETURNING p.n"
            ),
        );
        let (kept, counted) = match trust {
            Trust::AllAreHeld => ("ending", GONE),
            Trust::Nothing => {
                statement.with(FINISHED, "SELECT ending.* FROM ending JOIN gone ON gone.n = ending.n".to_owned());
                (FINISHED, FINISHED)
            }
        };
        statement.with(
            "stored",
            format!(
                "INSERT INTO deliveries (tenant, webhook, n, event, entropy, type, status, trigger, replay, attempts, \
                   finished_at, {ATTEMPT}) \
                 SELECT tenant, webhook, n, event, entropy, type, status, trigger, replay, attempts, {finished_at}, \
                   {ATTEMPT} FROM {kept}"
            ),
        );
        counted
    }
}

/// Deliveries that wait for another try.
#[derive(Debug, Default)]
struct Retries<'a> {
    rows: Keys,
    due_at: Vec<i64>,
    attempts: Vec<i32>,
    step: Vec<i32>,
    resume_at: Vec<Option<i64>>,
    attempt: Attempts<'a>,
}

impl<'a> Retries<'a> {
    fn add(&mut self, at: i32, one: &'a Recorded, due_at: UnixMs, progress: Progress) {
        self.rows.add(at, one);
        self.due_at.push(due_at.0);
        self.attempts.push(progress.attempts.cast_signed());
        self.step.push(progress.step.cast_signed());
        self.resume_at.push(progress.resume_at.map(|at| at.0));
        self.attempt.add(one.attempt.as_ref(), None);
    }

    fn add_to<'s>(&'s self, statement: &mut Statement<'s>, me: &str) {
        let mut arrays = self.rows.bind(statement);
        arrays.extend([
            statement.bind(&self.due_at, Type::INT8_ARRAY),
            statement.bind(&self.attempts, Type::INT4_ARRAY),
            statement.bind(&self.step, Type::INT4_ARRAY),
            statement.bind(&self.resume_at, Type::INT8_ARRAY),
        ]);
        arrays.extend(self.attempt.bind(statement));
        let columns = format!("at, tenant, webhook, n, due_at, attempts, step, resume_at, {ATTEMPT}");
        statement.with_whole("retrying", held(&arrays.join(", "), &columns, me));
        let still_held = still_held(me);
        statement.with(
            RETRIED,
            format!(
                "UPDATE pending p SET due_at = o.due_at, attempts = o.attempts, step = o.step, \
                   resume_at = o.resume_at, {TO_ITS_HOME} FROM retrying o WHERE p.ctid = o.place AND {still_held} \
                 RETURNING p.owner, o.at, o.tenant, o.webhook, o.n, {}",
                ATTEMPT.split(", ").map(|column| format!("o.{column}")).collect::<Vec<_>>().join(", ")
            ),
        );
        statement.with(
            "kept",
            format!(
                "INSERT INTO attempts (tenant, delivery, {ATTEMPT}) \
                 SELECT tenant, n, {ATTEMPT} FROM retried WHERE attempt IS NOT NULL"
            ),
        );
    }
}

/// Deliveries that go back as they were.
#[derive(Debug, Default)]
struct Releases {
    rows: Keys,
    due_at: Vec<i64>,
}

impl Releases {
    fn add_to<'s>(&'s self, statement: &mut Statement<'s>, me: &str) {
        let mut arrays = self.rows.bind(statement);
        arrays.push(statement.bind(&self.due_at, Type::INT8_ARRAY));
        statement.with_whole("releasing", held(&arrays.join(", "), "at, tenant, webhook, n, due_at", me));
        let still_held = still_held(me);
        statement.with(
            RELEASED,
            format!(
                "UPDATE pending p SET due_at = o.due_at, {TO_ITS_HOME} FROM releasing o \
                 WHERE p.ctid = o.place AND {still_held} RETURNING p.owner, o.at, o.webhook"
            ),
        );
    }
}
