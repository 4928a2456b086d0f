//! The one writer: a thread that commits everything that waits in one transaction.
//!
//! Each command runs in a savepoint of its own, so one that fails takes no other with it, and is answered after the
//! commit. When the commit fails, or SQLite gives the whole transaction up (both mean a full disk), every command of
//! the batch gets the error, nothing of it remains, and the writer goes on with the next batch.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use parking_lot::Mutex;
use postrider_core::ids::Sequence;
use postrider_core::time::UnixMs;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::backlog::{Backlog, Move};
use super::checkpoint::{Log, checkpoint};
use super::commits::Commits;
use super::hot::HotDays;
use crate::store::{Error, Result};

/// Commands that wait for the writer; beyond it, callers wait.
pub(super) const COMMANDS_MAX: usize = 1024;
/// Rows after which a transaction takes no further command: bounds how long the first one waits.
const BATCH_ROWS_MAX: usize = 10_000;

/// What commands work with.
pub(super) struct Session {
    pub(super) conn: Connection,
    sequence: Sequence,
    /// The greatest number that was taken.
    last: i64,
    pub(super) days: HotDays,
    /// Pending rows moved by the transaction so far.
    pub(super) moves: Vec<Move>,
    /// Replaces the whole backlog when the transaction commits.
    pub(super) restart: Option<Vec<super::queue::Counted>>,
}

impl Session {
    /// Continues after `last`, the greatest number ever handed out.
    pub(super) fn new(conn: Connection, last: i64) -> Session {
        let sequence = Sequence::after(last);
        Session { conn, sequence, last, days: HotDays::default(), moves: Vec::new(), restart: None }
    }

    /// The first of `count` consecutive numbers.
    pub(super) fn take(&mut self, count: usize, now: UnixMs) -> i64 {
        let first = self.sequence.take(count, now);
        self.last = first + count as i64 - 1;
        first
    }

    /// Leaves out the numbers up to `number`.
    pub(super) fn skip_past(&mut self, number: i64) {
        if self.last < number {
            self.sequence = Sequence::after(number);
            self.last = number;
        }
    }

    /// Forgets what a rolled back command has put into memory. Numbers are not given back: gaps do no harm.
    fn forget(&mut self, moves: usize) {
        self.moves.truncate(moves);
        self.restart = None;
        self.days.clear();
    }
}

/// A piece of work with its answer, seen by the writer without its type.
pub(super) trait Command: Send {
    /// How many rows it touches, about.
    fn rows(&self) -> usize;
    /// Does the work and keeps the result; a copy of the error if it failed.
    fn run(&mut self, session: &mut Session) -> Result<()>;
    /// Replaces the result of work that did not last.
    fn fail(&mut self, error: &Error);
    /// Hands the result over.
    fn answer(self: Box<Self>);
}

/// The only [`Command`].
pub(super) struct Task<T, W> {
    rows: usize,
    work: Option<W>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, W> Task<T, W>
where
    W: FnOnce(&mut Session) -> Result<T> + Send,
    T: Send,
{
    pub(super) fn new(rows: usize, work: W) -> (Task<T, W>, oneshot::Receiver<Result<T>>) {
        let (reply, answer) = oneshot::channel();
        (Task { rows, work: Some(work), result: None, reply }, answer)
    }
}

impl<T, W> Command for Task<T, W>
where
    W: FnOnce(&mut Session) -> Result<T> + Send,
    T: Send,
{
    fn rows(&self) -> usize {
        self.rows
    }

    fn run(&mut self, session: &mut Session) -> Result<()> {
        let Some(work) = self.work.take() else { return Ok(()) };
        let result = work(session);
        let copy = result.as_ref().map(drop).map_err(copy);
        self.result = Some(result);
        copy
    }

    fn fail(&mut self, error: &Error) {
        self.result = Some(Err(copy(error)));
    }

    fn answer(self: Box<Self>) {
        let lost = || Err(Error::Unavailable("the command was not run".into()));
        // Nobody listens when the caller has gone away; the work is done all the same.
        let _ = self.reply.send(self.result.unwrap_or_else(lost));
    }
}

/// The same error once more; the chain of causes becomes text.
fn copy(error: &Error) -> Error {
    match error {
        Error::Full => Error::Full,
        Error::Unavailable(text) => Error::Unavailable(text.clone()),
        Error::Conflict(field) => Error::Conflict(field),
        Error::Other(error) => Error::Other(anyhow::anyhow!("{error:#}")),
    }
}

/// The writer thread's own.
pub(super) struct Writer {
    pub(super) session: Session,
    pub(super) commands: mpsc::Receiver<Box<dyn Command>>,
    pub(super) backlog: Arc<Mutex<Backlog>>,
    pub(super) log: Arc<Log>,
    pub(super) commits: Arc<Commits>,
    /// Woken after commits.
    pub(super) checkpointer: std::thread::Thread,
    /// Pages added to the log that make a checkpoint worth while.
    pub(super) piece_pages: u32,
}

impl Writer {
    /// Works until every sender is gone and the queue is empty.
    pub(super) fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(first) = self.commands.blocking_recv() {
            let mut rows = first.rows();
            batch.push(first);
            while rows < BATCH_ROWS_MAX {
                let Ok(next) = self.commands.try_recv() else { break };
                rows += next.rows();
                batch.push(next);
            }
            self.commit(&mut batch);
            for command in batch.drain(..) {
                command.answer();
            }
            self.finish_log();
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Command>]) {
        let started = Instant::now();
        match transaction(&mut self.session, batch) {
            Ok(()) => self.publish(),
            Err(error) => {
                // A lone command's own failure says nothing of the disk, unless it is one of the disk.
                if batch.len() > 1 || matches!(error, Error::Full | Error::Unavailable(_)) {
                    self.note_failure(&error);
                }
                if !self.session.conn.is_autocommit()
                    && let Err(error) = self.session.conn.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "store: a transaction could not be rolled back");
                }
                self.session.forget(0);
                for command in batch.iter_mut() {
                    command.fail(&error);
                }
            }
        }
        metrics::histogram!("postrider_store_commit_seconds").record(started.elapsed());
        metrics::histogram!("postrider_store_commit_commands").record(batch.len() as f64);
    }

    /// A full disk is none that fails: reading goes on, and people are needed at the console to make room.
    fn note_failure(&self, error: &Error) {
        match error {
            Error::Full => self.commits.succeeded(Instant::now()),
            other => self.commits.failed(Instant::now(), other.to_string()),
        }
    }

    /// What was committed becomes visible in memory, and the checkpointer learns of it.
    fn publish(&mut self) {
        if self.log.was_written.swap(false, Relaxed) {
            self.commits.succeeded(Instant::now());
        }
        if self.session.restart.is_some() || !self.session.moves.is_empty() {
            let mut backlog = self.backlog.lock();
            if let Some(lanes) = self.session.restart.take() {
                backlog.restart(lanes.iter().map(|lane| (lane.tenant, lane.webhook, lane.parked)));
            }
            backlog.apply(&self.session.moves);
            self.session.moves.clear();
        }
        if self.log.has_a_piece(self.piece_pages) {
            self.checkpointer.unpark();
        }
    }

    /// Lets the log start over, if the checkpointer has come close enough to its end.
    fn finish_log(&self) {
        if self.log.finish.swap(false, Relaxed)
            && let Err(error) = checkpoint(&self.session.conn)
        {
            tracing::warn!(%error, "store: a checkpoint failed; the log goes on growing");
        }
    }
}

/// Runs all commands in one transaction and commits it. On an error nothing of the batch remains.
fn transaction(session: &mut Session, batch: &mut [Box<dyn Command>]) -> Result<()> {
    session.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    if let [only] = batch {
        return match only.run(session) {
            Ok(()) => Ok(session.conn.prepare_cached("COMMIT")?.execute([]).map(drop)?),
            Err(error) => Err(error),
        };
    }
    for command in batch {
        step(session, command.as_mut())?;
    }
    session.conn.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

/// One command in a savepoint; an error only when the whole transaction is lost.
fn step(session: &mut Session, command: &mut dyn Command) -> Result<()> {
    let moves = session.moves.len();
    session.conn.prepare_cached("SAVEPOINT command")?.execute([])?;
    if let Err(error) = command.run(session) {
        if session.conn.is_autocommit() {
            return Err(error);
        }
        session.conn.prepare_cached("ROLLBACK TO command")?.execute([])?;
        session.forget(moves);
    }
    session.conn.prepare_cached("RELEASE command")?.execute([])?;
    Ok(())
}
