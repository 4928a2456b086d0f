//! The endpoints: each answers as its mood and chance say, and everything that arrives is looked at.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use postrider::egress::{Request, Sent, Transport};
use postrider_core::delivery::{AttemptError, ErrorClass, Response};
use postrider_core::ids::WebhookId;

use crate::chance::Chance;
use crate::world::World;

/// How an endpoint is, until told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Answers, but takes its time.
    Slow,
    /// Fails as often as not, in every way there is.
    Mixed,
    /// Fails always, with an answer.
    Failing,
    /// Never answers.
    Silent,
    /// Answers 410.
    Gone,
}

pub(crate) const MOODS: [(u64, Mood); 6] =
    [(6, Mood::Well), (3, Mood::Slow), (8, Mood::Mixed), (3, Mood::Failing), (2, Mood::Silent), (1, Mood::Gone)];

/// As they are before anything is said of them.
const FIRST_MOODS: [(u64, Mood); 5] =
    [(8, Mood::Well), (3, Mood::Slow), (8, Mood::Mixed), (2, Mood::Failing), (1, Mood::Silent)];

/// What becomes of one request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Status(u16),
    /// With how many seconds the endpoint wants to be left alone.
    RetryAfter(u16, u64),
    /// 400 with `webhook-delivery: abort`.
    Abort,
    /// 200 with a body as large as is read.
    Huge,
    TooLarge,
    Refused,
    Reset,
    Silent,
    /// The kept connection was closed on the endpoint's side: the request arrives a second time, on a fresh one.
    Twice,
}

#[derive(Debug)]
pub(crate) struct Receivers {
    chance: Chance,
    moods: BTreeMap<WebhookId, Mood>,
    /// Everybody is well: the end of the simulation.
    pub(crate) all_well: bool,
}

impl Receivers {
    pub(crate) fn new(seed: u64) -> Receivers {
        Receivers { chance: Chance::new(seed, "receivers"), moods: BTreeMap::new(), all_well: false }
    }

    pub(crate) fn set(&mut self, webhook: WebhookId, mood: Mood) {
        self.moods.insert(webhook, mood);
    }

    /// What a request is answered, and after how many milliseconds.
    fn decide(&mut self, webhook: WebhookId) -> (Answer, u64) {
        let chance = &mut self.chance;
        let mood = *self.moods.entry(webhook).or_insert_with(|| chance.weighted(&FIRST_MOODS));
        let mood = if self.all_well { Mood::Well } else { mood };
        let quick = chance.within(0..20);
        match mood {
            Mood::Well => (Answer::Status(chance.one_of(&[200, 200, 201, 204])), quick),
            Mood::Slow => (Answer::Status(200), chance.within(100..4_000)),
            Mood::Failing => {
                let answer = Answer::Status(chance.one_of(&[500, 500, 502, 503, 404, 301]));
                (answer, quick)
            }
            Mood::Silent => (Answer::Silent, 0),
            Mood::Gone => (Answer::Status(410), quick),
            Mood::Mixed => {
                let pause = chance.within(0..60);
                let status = chance.one_of(&[429, 503]);
                let seconds = chance.within(1..40);
                let answers = [
                    (20, Answer::Status(200)),
                    (6, Answer::Status(500)),
                    (3, Answer::Status(504)),
                    (4, Answer::RetryAfter(status, seconds)),
                    (1, Answer::Abort),
                    (2, Answer::Huge),
                    (1, Answer::TooLarge),
                    (2, Answer::Refused),
                    (4, Answer::Reset),
                    (2, Answer::Silent),
                    (3, Answer::Twice),
                ];
                (chance.weighted(&answers), pause)
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Endpoints(pub(crate) Arc<World>);

impl Transport for Endpoints {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent> {
        let (answer, pause_ms) = {
            let mut state = self.0.lock();
            if state.dead {
                return std::future::pending().boxed();
            }
            let (answer, pause_ms) = state.receivers.decide(request.webhook_id);
            let (n, attempt) = (request.delivery_id, request.attempt);
            state.note(format_args!("{} gets {n} ({attempt}), {answer:?} in {pause_ms} ms", request.webhook_id));
            state.checks.cover(&format!("answer {}", name(answer)));
            state.sending(&request);
            (answer, pause_ms)
        };
        self.0.stop_if_broken();
        let flight = Flight { world: self.0.clone(), number: request.delivery_id.0 };
        async move {
            let timeout = request.timeout;
            let pause = if matches!(answer, Answer::Silent) { timeout } else { Duration::from_millis(pause_ms) };
            let is_late = pause >= timeout;
            tokio::time::sleep(pause.min(timeout)).await;
            let answer = if is_late { Answer::Silent } else { answer };
            let sent = sent(answer, pause.min(timeout), timeout);
            if !arrived(&flight, &sent) {
                // A dead process hears nothing.
                std::future::pending::<()>().await;
            }
            drop(flight);
            sent
        }
        .boxed()
    }
}

/// The answer is on its way; `false`: to nobody.
fn arrived(flight: &Flight, sent: &Sent) -> bool {
    let mut state = flight.world.lock();
    if state.dead {
        return false;
    }
    let (n, taken) = (flight.number, sent.error.is_none());
    state.note(format_args!("{n} was {}", if taken { "taken" } else { "not taken" }));
    if let Some(known) = state.ledger.deliveries.get_mut(&n) {
        known.taken += u32::from(taken);
    }
    true
}

/// A request under way; it ends with its answer, or with the connection.
struct Flight {
    world: Arc<World>,
    number: i64,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        if !state.dead {
            state.ledger.in_flight.remove(&self.number);
        }
    }
}

fn name(answer: Answer) -> String {
    match answer {
        Answer::Status(status) => status.to_string(),
        Answer::RetryAfter(status, _) => format!("{status} with Retry-After"),
        other => format!("{other:?}"),
    }
}

fn sent(answer: Answer, duration: Duration, timeout: Duration) -> Sent {
    let fault = |class, detail: &str| Some(AttemptError { class, detail: detail.to_owned() });
    let header = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let (response, error) = match answer {
        Answer::Status(status) => (Some(Response { status, ..Response::default() }), None),
        Answer::RetryAfter(status, seconds) => {
            let headers = header("retry-after", &seconds.to_string());
            (Some(Response { status, headers, ..Response::default() }), None)
        }
        Answer::Abort => {
            let headers = header("webhook-delivery", "abort");
            (Some(Response { status: 400, headers, ..Response::default() }), None)
        }
        Answer::Huge => (Some(Response { status: 200, headers: Vec::new(), body: "x".repeat(16 * 1024) }), None),
        Answer::Twice => (Some(Response { status: 200, ..Response::default() }), None),
        Answer::TooLarge => (None, fault(ErrorClass::TooLarge, "the head was too large")),
        Answer::Refused => (None, fault(ErrorClass::Connect, "connection refused")),
        Answer::Reset => (None, fault(ErrorClass::Reset, "the connection was reset")),
        Answer::Silent => (None, fault(ErrorClass::Timeout, &format!("no answer within {timeout:?}"))),
    };
    let is_bad = |response: &Response| !(200..300).contains(&response.status);
    let error = error.or_else(|| {
        let bad = response.as_ref().filter(|response| is_bad(response))?;
        fault(ErrorClass::HttpStatus, &format!("answered {}", bad.status))
    });
    Sent { response, error, remote_address: None, duration }
}
