//! What the sink expects and what it has seen. No I/O: one call per request.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::stumble::Stumbles;
use crate::latency::{Latencies, Summary};
use crate::ledger::{Ledger, SEQUENCE_MAX};
use crate::payload::Stamp;
use crate::signature::{Signed, SigningKey, StampingKey};
use crate::wire::Request;

/// How a webhook of the sink treats its deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Behaviour {
    /// Checks, counts, answers 200.
    #[default]
    Receives,
    /// Accepts the connection and never answers.
    Hangs,
    /// Answers 500.
    Fails,
    /// Fails one request in twenty, by 500, by 503 or by a reset connection, and receives what comes again.
    Stumbles,
}

impl Behaviour {
    /// Whether everything sent to it is to arrive.
    pub(crate) fn receives_all(self) -> bool {
        matches!(self, Behaviour::Receives | Behaviour::Stumbles)
    }
}

/// What a webhook's deliveries are signed with, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Secret {
    /// Standard Webhooks.
    Standard(String),
    /// `X-Alumia-Signature`, the key being the text.
    Alumia(String),
}

/// What the driver tells the sink about one webhook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Expectation {
    pub(crate) secret: Secret,
    pub(crate) behaviour: Behaviour,
}

/// Latency is recorded of events that were due to be sent in `from_ns..until_ns`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) from_ns: u64,
    pub(crate) until_ns: u64,
    /// Of how many deliveries one signature is checked.
    pub(crate) verify_one_in: u64,
}

/// Everything received so far by the webhooks that receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Deliveries, duplicates not counted.
    pub(crate) delivered: u64,
    pub(crate) duplicates: u64,
    pub(crate) verified: u64,
    pub(crate) bad_signatures: u64,
    pub(crate) malformed: u64,
    /// Requests to webhooks that hang or fail, and those that failed of webhooks that stumble.
    pub(crate) turned_away: u64,
    /// Scheduled send → arrival, of the events in the window.
    pub(crate) latency: Summary,
}

/// What a delivery is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Ok,
    Failed,
    Unavailable,
    Malformed,
    /// The connection is reset.
    Reset,
    Never,
}

#[derive(Debug)]
enum Key {
    Standard(SigningKey),
    Alumia(StampingKey),
}

#[derive(Debug, Default)]
struct Webhook {
    key: Option<Key>,
    behaviour: Behaviour,
    seen: Ledger,
}

#[derive(Debug)]
pub(super) struct Book {
    webhooks: Vec<Webhook>,
    window: Window,
    latencies: Latencies,
    stumbles: Stumbles,
    totals: Report,
}

impl Book {
    pub(super) fn new(webhooks: usize) -> Book {
        Book {
            webhooks: (0..webhooks).map(|_| Webhook::default()).collect(),
            window: Window { from_ns: 0, until_ns: 0, verify_one_in: 1 },
            latencies: Latencies::new(),
            stumbles: Stumbles::default(),
            totals: Report::default(),
        }
    }

    /// Judges and counts one delivery to `webhook` that arrived at `now_ns`.
    pub(super) fn take(&mut self, webhook: usize, request: &Request<'_>, now_ns: u64) -> Reply {
        let hook = &mut self.webhooks[webhook];
        let reply = match hook.behaviour {
            Behaviour::Receives | Behaviour::Stumbles => Reply::Ok,
            Behaviour::Hangs => Reply::Never,
            Behaviour::Fails => Reply::Failed,
        };
        if reply != Reply::Ok {
            self.totals.turned_away += 1;
            return reply;
        }
        let Some(stamp) = Stamp::find(request.body).filter(|stamp| stamp.sequence <= SEQUENCE_MAX) else {
            self.totals.malformed += 1;
            return Reply::Malformed;
        };
        let stumbles = hook.behaviour == Behaviour::Stumbles;
        if stumbles && !hook.seen.has(stamp.sequence) {
            let reply = self.stumbles.judge(webhook, stamp.sequence, now_ns);
            if reply != Reply::Ok {
                self.totals.turned_away += 1;
                return reply;
            }
        }
        if stamp.sequence % self.window.verify_one_in == 0 {
            let good = hook.key.as_ref().is_some_and(|key| key.verifies(request, now_ns / 1_000_000_000));
            self.totals.verified += u64::from(good);
            self.totals.bad_signatures += u64::from(!good);
        }
        if !hook.seen.enter(stamp.sequence) {
            self.totals.duplicates += 1;
            return reply;
        }
        self.totals.delivered += 1;
        let after_ns = now_ns.saturating_sub(stamp.scheduled_ns);
        if stumbles {
            self.stumbles.took(webhook, stamp.sequence, after_ns);
        }
        if (self.window.from_ns..self.window.until_ns).contains(&stamp.scheduled_ns) {
            self.latencies.record_ns(after_ns);
        }
        reply
    }

    /// Serves the driver: `/expect`, `/window`, `/delivered`, `/report`, `/interval`, `/seen/{webhook}`.
    pub(super) fn control(&mut self, request: &Request<'_>) -> Result<Vec<u8>> {
        match request.path {
            "/expect" => self.expect(serde_json::from_slice(request.body)?),
            "/window" => {
                self.window = serde_json::from_slice(request.body)?;
                self.latencies = Latencies::new();
                Ok(b"{}".to_vec())
            }
            "/delivered" => Ok(self.totals.delivered.to_le_bytes().to_vec()),
            "/report" => Ok(serde_json::to_vec(&Report { latency: self.latencies.summary(), ..self.totals })?),
            "/interval" => Ok(serde_json::to_vec(&self.stumbles.interval(self.totals.delivered))?),
            path => {
                let webhook: usize = path.strip_prefix("/seen/").context("no such path")?.parse()?;
                Ok(self.webhooks.get(webhook).context("no such webhook")?.seen.to_bytes())
            }
        }
    }

    /// Starts afresh with these webhooks: nothing seen, nothing counted.
    fn expect(&mut self, expectations: Vec<Expectation>) -> Result<Vec<u8>> {
        let webhooks = self.webhooks.len();
        if expectations.len() > webhooks {
            bail!("{} webhooks are expected of a sink of {webhooks}", expectations.len());
        }
        *self = Book::new(webhooks);
        for (hook, expectation) in self.webhooks.iter_mut().zip(expectations) {
            hook.key = Some(match &expectation.secret {
                Secret::Standard(secret) => Key::Standard(SigningKey::new(secret)?),
                Secret::Alumia(secret) => Key::Alumia(StampingKey::new(secret)),
            });
            hook.behaviour = expectation.behaviour;
        }
        Ok(b"{}".to_vec())
    }
}

impl Key {
    fn verifies(&self, request: &Request<'_>, now_s: u64) -> bool {
        match self {
            Key::Standard(key) => key.verifies(&signed(request), request.body, now_s),
            Key::Alumia(key) => key.verifies(request.header("x-alumia-signature"), request.body, now_s),
        }
    }
}

fn signed<'a>(request: &'a Request<'_>) -> Signed<'a> {
    Signed {
        id: request.header("webhook-id"),
        timestamp: request.header("webhook-timestamp"),
        signatures: request.header("webhook-signature"),
    }
}
