//! Callers of the gateway: over a fixed number of connections as fast as answers come, or at a fixed rate; each answer
//! is looked at.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Bench, Wrong};
use crate::clock;
use crate::driver::pacer::{Pacer, Ticks};
use crate::latency::{Latencies, Summary};
use crate::wire::Connection;

/// The server's last answers are waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether status and body of the answer to a request with this number are those that it is to have.
type Expected = dyn Fn(u64, u16, &[u8]) -> bool;

/// One kind of request.
pub(super) struct Call {
    pub(super) what: &'static str,
    /// The whole request, head and body, with a number in it.
    pub(super) request: Box<dyn Fn(u64) -> Vec<u8>>,
    pub(super) expected: Box<Expected>,
}

/// What is asked, in turn, and what came of it.
pub(super) struct Load {
    server: SocketAddr,
    calls: Vec<Call>,
    next: Cell<u64>,
    stop: Cell<bool>,
    measures: Cell<bool>,
    answered: Vec<Cell<u64>>,
    answers: RefCell<Latencies>,
    wrong: RefCell<Wrong>,
}

/// What was answered while it was measured.
pub(super) struct Seen {
    pub(super) seconds: f64,
    pub(super) answered: u64,
    pub(super) kinds: Vec<(&'static str, u64)>,
    /// From the instant that a request was due.
    pub(super) answer: Summary,
    /// Of the whole run, warming up included.
    pub(super) wrong: Wrong,
}

impl Load {
    pub(super) fn new(server: SocketAddr, calls: Vec<Call>) -> Rc<Load> {
        Rc::new(Load {
            server,
            next: Cell::new(0),
            stop: Cell::new(false),
            measures: Cell::new(false),
            answered: calls.iter().map(|_| Cell::new(0)).collect(),
            calls,
            answers: RefCell::new(Latencies::new()),
            wrong: RefCell::default(),
        })
    }

    /// Loads the server, at `per_second` if that is given; with what `sample` says when the measuring begins and when it
    /// ends.
    pub(super) async fn run<S>(
        self: &Rc<Load>,
        bench: &Bench<'_>,
        what: &str,
        per_second: Option<f64>,
        sample: impl Fn() -> Result<S>,
    ) -> Result<(Seen, S, S)> {
        let pacer = per_second.map(Pacer::start);
        let mut callers = Vec::new();
        for _ in 0..bench.callers {
            let connection = Connection::open(self.server).await.context("cannot connect to the server")?;
            let ticks = pacer.as_ref().map(Pacer::ticks);
            callers.push(tokio::task::spawn_local(self.clone().call(connection, ticks)));
        }
        bench.progress.wait(&format!("warming up for {what}"), bench.warm_up).await;
        let first = sample()?;
        let started = Instant::now();
        self.measures.set(true);
        bench.progress.wait(what, bench.measured).await;
        self.measures.set(false);
        let seconds = started.elapsed().as_secs_f64();
        let last = sample()?;
        self.stop.set(true);
        drop(pacer);
        for caller in callers {
            tokio::time::timeout(PATIENCE, caller).await.context("the server owes an answer")???;
        }
        let kinds: Vec<_> = self.calls.iter().map(|call| call.what).zip(self.answered.iter().map(Cell::get)).collect();
        let answered = kinds.iter().map(|(_, count)| count).sum();
        let seen = Seen { seconds, answered, kinds, answer: self.answers.borrow().summary(), wrong: self.wrong.take() };
        ensure!(answered > 0, "{what}: nothing was answered");
        Ok((seen, first, last))
    }

    async fn call(self: Rc<Load>, mut connection: Connection, ticks: Option<Ticks>) -> Result<()> {
        while !self.stop.get() {
            let due_ns = match &ticks {
                None => clock::now_ns(),
                Some(ticks) => match ticks.next().await {
                    Some(due_ns) => due_ns,
                    None => return Ok(()),
                },
            };
            let number = self.next.replace(self.next.get() + 1);
            let turn = (number % self.calls.len() as u64) as usize;
            let call = &self.calls[turn];
            connection.write(&(call.request)(number)).await?;
            let answer = connection.answer().await.context("the server has closed a connection")?;
            if self.measures.get() {
                self.answered[turn].set(self.answered[turn].get() + 1);
                self.answers.borrow_mut().record_ns(clock::now_ns().saturating_sub(due_ns));
            }
            let body = connection.body(&answer);
            if !(call.expected)(number, answer.status, body) {
                let mut wrong = self.wrong.borrow_mut();
                wrong.count += 1;
                wrong.first.get_or_insert_with(|| {
                    let text: String = String::from_utf8_lossy(body).chars().take(300).collect();
                    format!("{}: {} {text}", call.what, answer.status)
                });
            }
        }
        Ok(())
    }
}

/// A request with a JSON body; `headers` are whole lines.
pub(super) fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n{headers}");
    format!("{head}content-length: {length}\r\n\r\n{body}").into_bytes()
}
