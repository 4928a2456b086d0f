//! The load: publishes events over a fixed number of connections and keeps exact account of what was accepted.
//!
//! Two paces. *Closed*: as fast as answers come, but with a bound on deliveries that were accepted and have not arrived,
//! so that a peak is a state the server can hold and not a backlog it piles up. *Fixed*: at set instants, whether or not
//! earlier answers have come; every event carries the instant it was due, so time it waited for a free connection
//! counts as latency (no coordinated omission).

pub(crate) mod pacer;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::clock;
use crate::latency::{Latencies, Summary};
use crate::ledger::Ledger;
use crate::payload::Request;
use crate::sink::{self, Sink, Window};
use crate::wire::Connection;
use pacer::Pacer;

/// How often the driver asks the sink for its count: the grain of the bound on outstanding deliveries.
const COUNT_EVERY: Duration = Duration::from_millis(5);
/// After a refusal a connection rests, so that a server in trouble is not also flooded.
const REST: Duration = Duration::from_millis(10);
/// Connections that fail so often in a row give up.
const FAILURES_MAX: u32 = 20;

/// Somebody who publishes.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) key: String,
    /// Where its events come in as somebody else's webhooks, instead of being published with the key.
    pub(crate) inlet: Option<Inlet>,
    /// The sink's webhooks that each of its events must reach.
    pub(crate) webhooks: Vec<usize>,
    /// False if its webhook hangs or fails: nothing of it is expected to arrive.
    pub(crate) well: bool,
}

/// A receiver of GitHub's webhooks.
#[derive(Clone, Debug)]
pub(crate) struct Inlet {
    pub(crate) path: String,
    pub(crate) secret: String,
}

/// How fast to publish.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    Closed { outstanding_max: u64 },
    Fixed { per_second: f64 },
}

/// One stretch of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    /// Events in a request.
    pub(crate) batch: usize,
    pub(crate) pace: Pace,
    /// Stop by itself after so many events.
    pub(crate) events_max: u64,
}

/// Publishes to the nodes of one deployment, to all of them alike, for as long as it lives, over any number of [`Plan`]s.
#[derive(Debug)]
pub(crate) struct Driver {
    shared: Rc<Shared>,
}

/// A plan being carried out.
#[derive(Debug)]
pub(crate) struct Running {
    shared: Rc<Shared>,
    senders: Vec<JoinHandle<()>>,
    counting: Option<JoinHandle<Result<()>>>,
    pacer: Option<Pacer>,
}

#[derive(Debug)]
struct Shared {
    servers: RefCell<Vec<SocketAddr>>,
    tenants: Vec<Account>,
    turn: Cell<usize>,
    events: Cell<u64>,
    accepted: Cell<u64>,
    /// Deliveries owed for what was accepted.
    owed: Cell<u64>,
    delivered: Cell<u64>,
    refused: Cell<u64>,
    first_refusal: RefCell<Option<String>>,
    window: Cell<(u64, u64)>,
    answers: RefCell<Latencies>,
    lateness: RefCell<Latencies>,
    stop: Cell<bool>,
    room: Notify,
}

#[derive(Debug)]
struct Account {
    tenant: Tenant,
    next_sequence: Cell<u64>,
    accepted: RefCell<Ledger>,
}

/// What the driver saw in a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// From the due instant to the server's answer.
    pub(crate) answers: Summary,
    /// From the due instant to the moment the request was written: the driver's own delay.
    pub(crate) lateness: Summary,
}

impl Tenant {
    fn request(&self, host: &str, batch: usize) -> Request {
        match &self.inlet {
            Some(inlet) => Request::received(host, inlet),
            None => Request::new(host, &self.key, batch),
        }
    }
}

impl Driver {
    pub(crate) fn new(servers: Vec<SocketAddr>, tenants: Vec<Tenant>) -> Driver {
        let account = |tenant| Account { tenant, next_sequence: Cell::new(0), accepted: RefCell::default() };
        let shared = Shared {
            servers: RefCell::new(servers),
            tenants: tenants.into_iter().map(account).collect(),
            turn: Cell::new(0),
            events: Cell::new(0),
            accepted: Cell::new(0),
            owed: Cell::new(0),
            delivered: Cell::new(0),
            refused: Cell::new(0),
            first_refusal: RefCell::default(),
            window: Cell::new((0, 0)),
            answers: RefCell::new(Latencies::new()),
            lateness: RefCell::new(Latencies::new()),
            stop: Cell::new(false),
            room: Notify::new(),
        };
        Driver { shared: Rc::new(shared) }
    }

    /// The nodes were started again, elsewhere.
    pub(crate) fn follow(&self, servers: Vec<SocketAddr>) {
        *self.shared.servers.borrow_mut() = servers;
    }

    /// Starts `plan`; `sink` tells what has arrived (without one, nothing is waited for).
    pub(crate) async fn start(&self, plan: &Plan, sink: Option<&Sink>) -> Result<Running> {
        let shared = Rc::clone(&self.shared);
        shared.stop.set(false);
        shared.events.set(0);
        let counting = match sink {
            Some(sink) => Some(tokio::task::spawn_local(Rc::clone(&shared).count(sink.counter().await?))),
            None => None,
        };
        let pacer = match plan.pace {
            Pace::Fixed { per_second } => Some(Pacer::start(per_second / plan.batch as f64)),
            Pace::Closed { .. } => None,
        };
        let mut senders = Vec::new();
        let servers = shared.servers.borrow().clone();
        for server in servers.into_iter().cycle().take(plan.connections) {
            let connection = Connection::open(server).await.context("cannot connect to the server")?;
            let gate = match (plan.pace, &pacer) {
                (_, Some(pacer)) => Gate::Ticks(pacer.ticks()),
                (Pace::Closed { outstanding_max }, None) => Gate::Room { outstanding_max },
                (Pace::Fixed { .. }, None) => bail!("a fixed pace has a pacer"),
            };
            senders.push(tokio::task::spawn_local(Rc::clone(&shared).send(server, connection, *plan, gate)));
        }
        Ok(Running { shared, senders, counting, pacer })
    }

    /// Events accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.shared.accepted.get()
    }

    /// Deliveries that arrived so far, as of the last count.
    pub(crate) fn delivered(&self) -> u64 {
        self.shared.delivered.get()
    }

    /// Events refused so far, and what the server said first.
    pub(crate) fn refused(&self) -> (u64, Option<String>) {
        (self.shared.refused.get(), self.shared.first_refusal.borrow().clone())
    }

    /// Keeps times of events due in `window`, and only those.
    pub(crate) fn window(&self, window: &Window) {
        self.shared.window.set((window.from_ns, window.until_ns));
        *self.shared.answers.borrow_mut() = Latencies::new();
        *self.shared.lateness.borrow_mut() = Latencies::new();
    }

    pub(crate) fn seen(&self) -> Seen {
        let (answers, lateness) = (self.shared.answers.borrow(), self.shared.lateness.borrow());
        Seen { answers: answers.summary(), lateness: lateness.summary() }
    }

    /// Waits until everything accepted has arrived, or nothing more has for `patience`.
    pub(crate) async fn drain(&self, sink: &Sink, patience: Duration) -> Result<()> {
        let mut counter = sink.counter().await?;
        let mut last_growth = Instant::now();
        while self.shared.delivered.get() < self.shared.owed.get() && last_growth.elapsed() < patience {
            tokio::time::sleep(COUNT_EVERY).await;
            let delivered = sink::delivered(&mut counter).await?;
            if delivered > self.shared.delivered.replace(delivered) {
                last_growth = Instant::now();
            }
        }
        Ok(())
    }

    /// How many accepted deliveries the sink has not seen, number by number.
    pub(crate) async fn losses(&self, sink: &mut Sink) -> Result<u64> {
        let mut losses = 0;
        for account in self.shared.tenants.iter().filter(|account| account.tenant.well) {
            for webhook in &account.tenant.webhooks {
                let seen = sink.seen(*webhook).await?;
                losses += account.accepted.borrow().missing_from(&seen);
            }
        }
        Ok(losses)
    }
}

impl Running {
    /// Whether every connection has stopped by itself.
    pub(crate) fn finished(&self) -> bool {
        self.senders.iter().all(JoinHandle::is_finished)
    }

    /// Stops publishing; answers still owed are waited for, for at most `patience`.
    pub(crate) async fn stop(mut self, patience: Duration) -> Result<()> {
        self.shared.stop.set(true);
        self.shared.room.notify_waiters();
        drop(self.pacer.take());
        let deadline = tokio::time::Instant::now() + patience;
        for sender in &mut self.senders {
            tokio::time::timeout_at(deadline, sender).await.context("the server still owes an answer")??;
        }
        if let Some(counting) = self.counting.take() {
            if counting.is_finished() {
                counting.await??;
            } else {
                counting.abort();
            }
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.senders.iter().for_each(JoinHandle::abort);
        self.counting.iter().for_each(JoinHandle::abort);
    }
}

/// What a sender waits for before it may publish.
enum Gate {
    Room { outstanding_max: u64 },
    Ticks(pacer::Ticks),
}

impl Shared {
    /// Follows the sink's count and wakes the senders that wait for room.
    async fn count(self: Rc<Self>, mut counter: Connection) -> Result<()> {
        loop {
            self.delivered.set(sink::delivered(&mut counter).await?);
            self.room.notify_waiters();
            tokio::time::sleep(COUNT_EVERY).await;
        }
    }

    /// One connection: a turn, a request, an answer, again.
    async fn send(self: Rc<Self>, server: SocketAddr, mut connection: Connection, plan: Plan, gate: Gate) {
        let host = server.to_string();
        let mut requests: Vec<Request> =
            self.tenants.iter().map(|account| account.tenant.request(&host, plan.batch)).collect();
        let mut failures = 0;
        while failures < FAILURES_MAX {
            let Some(due_ns) = self.admit(&gate, &plan).await else { return };
            let turn = self.turn.replace(self.turn.get().wrapping_add(1)) % self.tenants.len();
            let account = &self.tenants[turn];
            let sequence = account.next_sequence.replace(account.next_sequence.get() + plan.batch as u64);
            let bytes = requests[turn].stamped(sequence, due_ns);
            self.time(&self.lateness, due_ns);
            match publish(&mut connection, bytes).await {
                Ok(None) => {
                    failures = 0;
                    self.accept(account, sequence, plan.batch);
                    self.time(&self.answers, due_ns);
                }
                Ok(Some(refusal)) => {
                    self.refuse(plan.batch, refusal);
                    tokio::time::sleep(REST).await;
                }
                Err(error) => {
                    failures += 1;
                    self.refuse(plan.batch, error.to_string());
                    tokio::time::sleep(REST).await;
                    if let Ok(fresh) = Connection::open(server).await {
                        connection = fresh;
                    }
                }
            }
        }
    }

    /// Waits for a turn; the instant it was due, or nothing when the plan is over.
    async fn admit(&self, gate: &Gate, plan: &Plan) -> Option<u64> {
        let due_ns = match gate {
            Gate::Room { outstanding_max } => {
                while !self.stop.get() && self.owed.get().saturating_sub(self.delivered.get()) >= *outstanding_max {
                    self.room.notified().await;
                }
                clock::now_ns()
            }
            Gate::Ticks(ticks) => ticks.next().await?,
        };
        if self.stop.get() || self.events.get() >= plan.events_max {
            return None;
        }
        self.events.set(self.events.get() + plan.batch as u64);
        Some(due_ns)
    }

    fn accept(&self, account: &Account, first_sequence: u64, batch: usize) {
        let mut ledger = account.accepted.borrow_mut();
        for sequence in (first_sequence..).take(batch) {
            ledger.enter(sequence);
        }
        self.accepted.set(self.accepted.get() + batch as u64);
        if account.tenant.well {
            self.owed.set(self.owed.get() + (batch * account.tenant.webhooks.len()) as u64);
        }
    }

    fn refuse(&self, batch: usize, refusal: String) {
        self.refused.set(self.refused.get() + batch as u64);
        self.first_refusal.borrow_mut().get_or_insert(refusal);
    }

    fn time(&self, latencies: &RefCell<Latencies>, due_ns: u64) {
        let (from_ns, until_ns) = self.window.get();
        if (from_ns..until_ns).contains(&due_ns) {
            latencies.borrow_mut().record_ns(clock::now_ns().saturating_sub(due_ns));
        }
    }
}

/// Publishes once: nothing if accepted, else what the server said.
async fn publish(connection: &mut Connection, request: &[u8]) -> std::io::Result<Option<String>> {
    connection.write(request).await?;
    let answer = connection.answer().await?;
    if answer.status == 202 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(connection.body(&answer));
    Ok(Some(format!("{} {text}", answer.status)))
}

#[cfg(test)]
mod tests;
