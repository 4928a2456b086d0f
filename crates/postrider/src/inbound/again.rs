//! Kept requests that become events after all: verified again after a secret was corrected, or released by hand.

use postrider_core::ids::{EventId, Sequence};
use postrider_core::inbound::Verdict;
use postrider_core::limits::INBOUND_REVERIFY_MAX;
use postrider_core::time::UnixMs;

use super::{Arrival, Receiver};
use crate::app::App;
use crate::pipeline::{PublishError, Received};
use crate::registry;
use crate::store::{self, Actor, ReceivedRecord, Scope};

/// What verifying failed requests again came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reverified {
    /// Requests looked at.
    pub checked: usize,
    /// Of these, now believed and released.
    pub released: usize,
    /// Now believed, but another request has brought the same event meanwhile.
    pub repeats: usize,
    /// Where to go on, if the bound of one call was reached: requests received since then were not looked at.
    pub next_since: Option<UnixMs>,
}

/// Requests verified and released in one step.
const STEP: usize = 200;

/// Verifies the failed requests to a webhook again, those received since `since` or all that are kept, oldest first;
/// each as of when it was received. What passes is released.
///
/// # Errors
/// The store's. What was released until then stays so.
pub async fn reverify(
    app: &App,
    receiver: &Receiver,
    since: Option<UnixMs>,
    actor: &Actor,
) -> Result<Reverified, PublishError> {
    let mut done = Reverified::default();
    let walked = walk(app, receiver, since, &mut done).await;
    if done.released > 0 || walked.is_ok() {
        let (id, tenant) = (receiver.record.id, Some(receiver.record.tenant_id));
        let detail = serde_json::json!({ "checked": done.checked, "released": done.released });
        let entry = registry::audit(app, tenant, actor, "received.reverified", id, (None, Some(detail)));
        app.store.audit(entry).await?;
    }
    walked.map(|()| done)
}

async fn walk(
    app: &App,
    receiver: &Receiver,
    since: Option<UnixMs>,
    done: &mut Reverified,
) -> Result<(), PublishError> {
    let mut after = since.map_or(0, |since| Sequence::floor(since) - 1);
    loop {
        let failed = app.store.received_failed(receiver.record.id, after, STEP).await?;
        let Some(last) = failed.last() else { return Ok(()) };
        if done.checked >= INBOUND_REVERIFY_MAX {
            done.next_since = Some(failed[0].received_at);
            return Ok(());
        }
        after = number(last.id)?;
        done.checked += failed.len();
        let mut passing = Vec::new();
        for record in failed {
            let verdict = verdict(app, receiver, &record).await;
            if verdict.is_accepted() {
                passing.push((record, Some(verdict)));
            }
        }
        if passing.is_empty() {
            continue;
        }
        for released in app.engine.release(passing).await? {
            if released.repeat { done.repeats += 1 } else { done.released += 1 }
        }
    }
}

fn number(id: EventId) -> store::Result<i64> {
    id.sequence().ok_or_else(|| store::Error::Other(anyhow::anyhow!("a kept request has an id that is not ours")))
}

/// Verifies a kept request as of when it was received, with what its receiver knows now.
async fn verdict(app: &App, receiver: &Receiver, record: &ReceivedRecord) -> Verdict {
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let arrival = Arrival {
        method: &record.method,
        target: &record.target,
        headers,
        body: record.body.clone(),
        address: record.remote_address,
        test: None,
    };
    let url = receiver.signed_url(arrival.query());
    // The secrets of now; only the signed time is compared with that of receipt.
    app.inbound.verdict_as_of(receiver, &arrival, &url, (app.ambient.now(), record.received_at)).await
}

/// Why a request was not released.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    #[error("no such request")]
    NotFound,
    #[error("it is an event already")]
    AlreadyReleased,
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl From<store::Error> for ReleaseError {
    fn from(error: store::Error) -> ReleaseError {
        ReleaseError::Publish(error.into())
    }
}

/// Makes a kept request an event, whatever its verdict: somebody has looked at it and answers for it.
///
/// # Errors
/// See [`ReleaseError`].
pub async fn release(app: &App, scope: Scope, id: EventId, actor: &Actor) -> Result<Received, ReleaseError> {
    let record = app.store.received_one(scope, id).await?.ok_or(ReleaseError::NotFound)?;
    if record.event_id.is_some() {
        return Err(ReleaseError::AlreadyReleased);
    }
    let (tenant, verdict) = (record.tenant_id, record.verdict);
    let released = app.engine.release(vec![(record, None)]).await?;
    let released = released.first().copied().ok_or(ReleaseError::NotFound)?;
    let detail = serde_json::json!({ "verdict": verdict, "event_id": released.id });
    let entry = registry::audit(app, Some(tenant), actor, "received.released", id, (None, Some(detail)));
    app.store.audit(entry).await?;
    Ok(released)
}
