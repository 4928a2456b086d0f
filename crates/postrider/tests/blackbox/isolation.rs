//! One endpoint that never answers and one that always fails delay only themselves.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Deployment, Receiver, Reply, quiet_machine};

const ENDPOINTS: usize = 50;
const EVENTS_EACH: usize = 120;
const PUBLISHERS: usize = 8;

/// Pairs of runs, alone and beside the two, before the promise counts as broken.
const PAIRS_AT_MOST: usize = 8;

/// What the 48 good endpoints saw of one run.
#[derive(Debug)]
struct Run {
    took: Duration,
    p99: Duration,
}

/// Publishes the same fixed work to all endpoints and measures when the good ones (all but the first two) had theirs.
async fn run(hang: bool, fail: bool) -> Run {
    let receiver = Receiver::start().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("Isolation").await;
    let api = server.api.as_key(&server.api.key(&tenant, "owner").await);
    if hang {
        receiver.always("/0", Reply::never());
    }
    if fail {
        receiver.always("/1", Reply::status(500));
    }
    for endpoint in 0..ENDPOINTS {
        let more = json!({ "events": [format!("for.{endpoint}")] });
        api.webhook(&tenant, &receiver.url(&format!("/{endpoint}")), more).await;
    }
    let began = Instant::now();
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let api = api.clone();
        publishers.spawn(async move {
            let mut published = Vec::new();
            for serial in (publisher..ENDPOINTS * EVENTS_EACH).step_by(PUBLISHERS) {
                let data = json!({ "serial": serial });
                let body = json!({ "type": format!("for.{}", serial % ENDPOINTS), "data": data });
                let at = Instant::now();
                api.post("/v1/events", body).await.expect(202);
                published.push((serial, at));
            }
            published
        });
    }
    let published: HashMap<usize, Instant> = publishers.join_all().await.into_iter().flatten().collect();
    let mut latencies = Vec::new();
    let mut last = began;
    for endpoint in 2..ENDPOINTS {
        let path = format!("/{endpoint}");
        for request in receiver.wait_within(&path, EVENTS_EACH, Duration::from_secs(60)).await {
            let serial = usize::try_from(request.json()["data"]["serial"].as_u64().unwrap()).unwrap();
            latencies.push(request.at.saturating_duration_since(published[&serial]));
            last = last.max(request.at);
        }
    }
    if hang {
        assert!(receiver.open() > 0, "the hanging endpoint still holds its requests");
        let delivered = server.api.deliveries(&format!("tenant_id={tenant}&type=for.0&status=succeeded")).await;
        assert!(delivered.is_empty(), "nothing was delivered to an endpoint that never answers");
    }
    latencies.sort_unstable();
    Run { took: last - began, p99: latencies[latencies.len() * 99 / 100] }
}

/// What one kind of run came to at its best. Whatever else the machine does only ever adds to a time, so the least of
/// several is what the server itself took.
struct Best {
    took: Duration,
    p99: Duration,
}

impl Best {
    fn of(runs: &[Run]) -> Best {
        let least = |time: fn(&Run) -> Duration| runs.iter().map(time).min().expect("at least one run");
        Best { took: least(|run| run.took), p99: least(|run| run.p99) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_and_a_failing_endpoint_cost_the_other_48_less_than_a_tenth() {
    let _machine = quiet_machine().await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS_AT_MOST {
        // Each kind goes first in turn: a machine that grows slower or faster is not held against one of them.
        for trouble in [pair % 2 == 1, pair % 2 == 0] {
            let runs = if trouble { &mut beside } else { &mut alone };
            runs.push(run(trouble, trouble).await);
        }
        let (well, troubled) = (Best::of(&alone), Best::of(&beside));
        let throughput = well.took.as_secs_f64() / troubled.took.as_secs_f64();
        println!("throughput {:.1} %, p99 {:?} alone, {:?} beside them", throughput * 100.0, well.p99, troubled.p99);
        // A tenth of the latency, and one tick of the scheduler that no program can rule out.
        let p99_bound = well.p99.mul_f64(1.0 / 0.9) + Duration::from_millis(2);
        if throughput >= 0.9 && troubled.p99 <= p99_bound {
            return;
        }
    }
    panic!("the others were slowed down at their best: {alone:#?} alone, {beside:#?} beside them");
}
