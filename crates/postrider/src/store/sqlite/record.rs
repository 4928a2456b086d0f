//! Recording outcomes: the hot half of the writer that nobody waits for.

use postrider_core::delivery::{AttemptError, DeliveryStatus, Progress};
use postrider_core::ids::EventId;
use postrider_core::time::UnixMs;
use rusqlite::params;

use super::backlog::{Move, Place};
use super::row::AttemptRow;
use super::tally;
use super::writer::Session;
use crate::store::codes::{status_code, trigger_code};
use crate::store::day::Day;
use crate::store::tally::{End, Tally};
use crate::store::{Recorded, RecordedOutcome, Result};

pub(super) fn record(session: &mut Session, outcomes: &[Recorded], now: UnixMs) -> Result<Vec<bool>> {
    let mut tally = Tally::default();
    let mut done = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        done.push(record_one(session, outcome, now, &mut tally)?);
    }
    tally::write(&tally, session, now)?;
    Ok(done)
}

fn record_one(session: &mut Session, outcome: &Recorded, now: UnixMs, tally: &mut Tally) -> Result<bool> {
    let end = match &outcome.outcome {
        RecordedOutcome::Succeeded => Some(End::Succeeded),
        RecordedOutcome::Failed => Some(End::Failed),
        RecordedOutcome::Canceled { .. } => Some(End::Canceled),
        RecordedOutcome::Retry { .. } | RecordedOutcome::Release { .. } => None,
    };
    let held = match &outcome.outcome {
        RecordedOutcome::Succeeded => finish(session, outcome, DeliveryStatus::Succeeded, None, now)?,
        RecordedOutcome::Failed => finish(session, outcome, DeliveryStatus::Failed, None, now)?,
        RecordedOutcome::Canceled { error } => finish(session, outcome, DeliveryStatus::Canceled, Some(error), now)?,
        RecordedOutcome::Retry { due_at, progress } => park_for_retry(session, outcome, *due_at, *progress)?,
        RecordedOutcome::Release { due_at } => park(session, outcome, *due_at)?,
    };
    if !held {
        return Ok(false);
    }
    session.moves.push(Move {
        tenant: outcome.tenant_id,
        webhook: outcome.webhook_id,
        n: outcome.delivery_id.0,
        from: Place::Held,
        to: if end.is_some() { Place::Nowhere } else { Place::Parked },
    });
    if !matches!(outcome.outcome, RecordedOutcome::Release { .. }) {
        tally.add(outcome.tenant_id, outcome.webhook_id, outcome.trigger, outcome.attempt.as_ref(), end);
    }
    Ok(true)
}

/// Moves a held row to history.
fn finish(
    session: &mut Session,
    outcome: &Recorded,
    status: DeliveryStatus,
    ended: Option<&AttemptError>,
    now: UnixMs,
) -> Result<bool> {
    let n = outcome.delivery_id.0;
    let mut delete = session.conn.prepare_cached("DELETE FROM pending WHERE n = ? AND due_at IS NULL")?;
    if delete.execute([n])? == 0 {
        return Ok(false);
    }
    drop(delete);
    let attempt = match &outcome.attempt {
        Some(attempt) => AttemptRow::of(attempt),
        None => AttemptRow::of_error(ended),
    };
    let finished = Finished {
        n,
        event: outcome.event_id,
        tenant: outcome.tenant_id.0.into_bytes(),
        webhook: outcome.webhook_id.0.into_bytes(),
        event_type: &outcome.event_type,
        status,
        trigger: trigger_code(outcome.trigger),
        replay: outcome.replay_id.map(|id| id.0.into_bytes()),
        attempts: outcome.attempts,
        attempt,
    };
    finished.insert(session, now)?;
    Ok(true)
}

/// A row of `deliveries`.
pub(super) struct Finished<'a> {
    pub(super) n: i64,
    pub(super) event: EventId,
    pub(super) tenant: [u8; 16],
    pub(super) webhook: [u8; 16],
    pub(super) event_type: &'a str,
    pub(super) status: DeliveryStatus,
    pub(super) trigger: i16,
    pub(super) replay: Option<[u8; 16]>,
    pub(super) attempts: u32,
    pub(super) attempt: AttemptRow<'a>,
}

impl Finished<'_> {
    pub(super) fn insert(&self, session: &mut Session, now: UnixMs) -> Result<()> {
        let sql = session.days.history(&session.conn, Day::of_number(self.n))?;
        let event = self.event.sequence().ok_or_else(|| anyhow::anyhow!("{} is not of this store", self.event))?;
        let attempt = &self.attempt;
        session.conn.prepare_cached(&sql.insert_delivery)?.execute(params![
            self.n,
            event,
            self.event.entropy().cast_signed(),
            self.tenant,
            self.webhook,
            self.event_type,
            status_code(self.status),
            self.trigger,
            self.replay,
            self.attempts,
            now.0,
            attempt.number,
            attempt.at,
            attempt.duration_ms,
            attempt.http_status,
            attempt.error_class,
            attempt.error_detail,
            attempt.address,
            attempt.headers,
            attempt.body,
        ])?;
        Ok(())
    }
}

fn park_for_retry(session: &mut Session, outcome: &Recorded, due_at: UnixMs, progress: Progress) -> Result<bool> {
    let n = outcome.delivery_id.0;
    let mut update = session.conn.prepare_cached(
        "UPDATE pending SET due_at = ?2, attempts = ?3, step = ?4, resume_at = ?5 WHERE n = ?1 AND due_at IS NULL",
    )?;
    let resume_at = progress.resume_at.map(|at| at.0);
    if update.execute(params![n, due_at.0, progress.attempts, progress.step, resume_at])? == 0 {
        return Ok(false);
    }
    drop(update);
    if let Some(attempt) = &outcome.attempt {
        insert_attempt(session, n, &AttemptRow::of(attempt))?;
    }
    Ok(true)
}

/// Keeps an attempt that is not the last one.
pub(super) fn insert_attempt(session: &mut Session, delivery: i64, attempt: &AttemptRow<'_>) -> Result<()> {
    let sql = session.days.history(&session.conn, Day::of_number(delivery))?;
    session.conn.prepare_cached(&sql.insert_attempt)?.execute(params![
        delivery,
        attempt.number,
        attempt.at,
        attempt.duration_ms,
        attempt.http_status,
        attempt.error_class,
        attempt.error_detail,
        attempt.address,
        attempt.headers,
        attempt.body,
    ])?;
    Ok(())
}

fn park(session: &Session, outcome: &Recorded, due_at: UnixMs) -> Result<bool> {
    let mut update = session.conn.prepare_cached("UPDATE pending SET due_at = ?2 WHERE n = ?1 AND due_at IS NULL")?;
    Ok(update.execute(params![outcome.delivery_id.0, due_at.0])? == 1)
}
