//! Received requests in the engine: kept and queued with their raw bodies, through restarts and releases.

use postrider_core::delivery::{Progress, Trigger};
use postrider_core::ids::{DeliveryId, EventId};
use postrider_core::inbound::{Reason, Verdict};
use serde_json::value::to_raw_value;

use super::*;
use crate::pipeline::lane::Queued;
use crate::pipeline::{Receive, Received};
use crate::store::{EventBody, Job, NewReceived, RawBody, ReceivedRecord, Source};

fn request(running: &Running, webhook: WebhookId, verdict: Verdict, body: &[u8]) -> Receive {
    let received = NewReceived {
        webhook_id: webhook,
        enters: verdict.is_accepted(),
        source: "custom".into(),
        method: "POST".into(),
        target: "/in?a=b".into(),
        headers: to_raw_value(&[("x-one", "1")]).unwrap(),
        remote_address: None,
        verdict,
        provider_event_id: Some("p-1".into()),
        test: false,
    };
    Receive {
        tenant_id: running.tenant,
        event_type: "a.b".into(),
        content_type: Some("application/octet-stream".into()),
        body: Bytes::copy_from_slice(body),
        received,
    }
}

const BELIEVED: Verdict = Verdict::Verified { secret: 0 };
const BYTES: &[u8] = b"\x00\xff raw";

impl Running {
    async fn kept(&self, id: EventId) -> ReceivedRecord {
        self.store.received_one(Scope::Tenant(self.tenant), id).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn what_waits_through_a_restart_goes_out_byte_for_byte() {
    let running = Running::start().await;
    let (webhook, _) = running.webhook(|spec| spec.dialect = Dialect::Alumia).await;
    running.set_status(webhook, WebhookStatus::Paused).await;
    let kept = running.engine.receive(request(&running, webhook, BELIEVED, BYTES)).await.unwrap();
    let running = running.restart().await;
    running.set_status(webhook, WebhookStatus::Active).await;
    running.until("it is delivered", |all| all.iter().any(|one| one.status == DeliveryStatus::Succeeded)).await;
    let got = running.endpoints.got.lock().remove(0);
    assert_eq!(got.body, BYTES);
    assert_eq!(got.headers["content-type"], "application/octet-stream");
    let record = running.kept(kept.id).await;
    assert_eq!((record.event_id, &*record.body, record.target.as_str()), (Some(kept.id), BYTES, "/in?a=b"));
}

#[test]
fn raw_bodies_count_against_the_memory_of_what_waits() {
    let body = |raw: Option<RawBody>| EventBody {
        id: EventId::from_sequence(1, 1),
        external_id: None,
        tenant_id: TenantId::from_random([1; 16]),
        event_type: "a.b".into(),
        occurred_at: UnixMs(0),
        ordering_key: None,
        source: Source::Received,
        trace_parent: None,
        data: Bytes::from_static(b"null"),
        raw,
    };
    let cost = |raw: Option<RawBody>| {
        let job = Job {
            delivery_id: DeliveryId(1),
            webhook_id: WebhookId::from_random([1; 16]),
            event: Arc::new(body(raw)),
            trigger: Trigger::Event,
            replay_id: None,
            progress: Progress::default(),
        };
        Queued { job, watcher: None }.cost()
    };
    let raw = |body: Option<Bytes>| Some(RawBody { content_type: None, body });
    assert_eq!(cost(raw(None)), cost(None), "the data is the body");
    assert_eq!(cost(raw(Some(Bytes::from(vec![0; 1000])))), cost(None) + 1000);
}

#[tokio::test]
async fn a_request_is_released_once_and_repeats_what_came_meanwhile() {
    let running = Running::start().await;
    let (webhook, _) = running.webhook(|spec| spec.dialect = Dialect::Alumia).await;
    let failed = Verdict::Failed(Reason::SignatureMismatch);
    let first = running.engine.receive(request(&running, webhook, failed, b"1")).await.unwrap();
    let second = running.engine.receive(request(&running, webhook, failed, b"1")).await.unwrap();
    assert!(!first.repeat && !second.repeat && first.id != second.id, "what is not believed repeats nothing");
    assert!(running.deliveries().await.is_empty());

    let record = running.kept(first.id).await;
    assert_eq!((record.event_id, record.reason), (None, Some(Reason::SignatureMismatch)));
    let twice =
        (running.engine.release(vec![(record.clone(), Some(BELIEVED))]), running.engine.release(vec![(record, None)]));
    let (one, other) = tokio::join!(twice.0, twice.1);
    let released: Vec<Received> = [one.unwrap(), other.unwrap()].concat();
    assert_eq!(released[0].id, released[1].id);
    assert_eq!(released.iter().filter(|one| one.repeat).count(), 1);
    // The other request brought the same event of the provider.
    let record = running.kept(second.id).await;
    let repeated = running.engine.release(vec![(record, None)]).await.unwrap();
    assert_eq!(repeated, [Received { id: released[0].id, repeat: true }]);
    running.until("one delivery", |all| all.len() == 1 && all[0].status == DeliveryStatus::Succeeded).await;
    assert_eq!(running.kept(first.id).await.event_id, Some(released[0].id));
}
