//! What operations answer, and how much of it a caller takes.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::limits::{REPLY_BYTES_MAX, ROWS_MAX, STATEMENT_TIMEOUT};
use crate::{Code, Fault};

/// How far one operation may go. What is wider than the settings' and the crate's own bounds is narrowed to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub timeout: Duration,
    /// Rows of the reply.
    pub rows: u64,
    /// What happens to a free query with more rows: cut, or refused as `result_too_large`.
    pub cut: bool,
    /// Bytes of the reply's rows.
    pub bytes: usize,
    /// Nothing may be written: refused by the form of a query's statements, and by the database, which runs them in a
    /// `READ ONLY` transaction or over a read-only connection. Of operations on tables only a fetch respects it by nature.
    pub read_only: bool,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { timeout: STATEMENT_TIMEOUT, rows: ROWS_MAX, cut: false, bytes: REPLY_BYTES_MAX, read_only: false }
    }
}

impl Bounds {
    pub(crate) fn within(self, timeout: Duration) -> Bounds {
        Bounds {
            timeout: self.timeout.min(timeout).max(Duration::from_millis(1)),
            rows: self.rows.min(ROWS_MAX),
            bytes: self.bytes.min(REPLY_BYTES_MAX),
            ..self
        }
    }
}

/// What an operation did.
#[derive(Debug, Default)]
pub struct Reply {
    /// JSON objects, their members in the order of the columns, numbers as exact as the database has them.
    pub rows: Vec<Box<RawValue>>,
    /// Rows inserted, updated and deleted.
    pub rows_affected: u64,
    pub statement_count: usize,
    /// There were more rows than the bound.
    pub cut: bool,
}

impl Reply {
    /// The first row's `id`: of an insert, what was made.
    pub fn resource_id(&self) -> Option<Box<RawValue>> {
        let row: std::collections::BTreeMap<String, Box<RawValue>> =
            serde_json::from_str(self.rows.first()?.get()).ok()?;
        row.into_iter().find(|(name, _)| name == "id").map(|(_, value)| value)
    }
}

/// Rows as they come in, counted.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Box<RawValue>>,
    bytes: usize,
    bounds: Bounds,
    pub(crate) cut: bool,
}

impl Rows {
    pub(crate) fn new(bounds: Bounds) -> Rows {
        Rows { rows: Vec::new(), bytes: 0, bounds, cut: false }
    }

    /// As many rows as the bound has.
    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() as u64 >= self.bounds.rows
    }

    /// False: it was one too many, and no more are needed.
    pub(crate) fn push(&mut self, row: Box<RawValue>) -> Result<bool, Fault> {
        if self.is_full() {
            if !self.bounds.cut {
                let message = format!("The result has more than {} rows.", self.bounds.rows);
                return Err(Fault::new(Code::ResultTooLarge, message));
            }
            self.cut = true;
            return Ok(false);
        }
        self.bytes += row.get().len() + 1;
        if self.bytes > self.bounds.bytes {
            return Err(too_many_bytes(self.bounds));
        }
        self.rows.push(row);
        Ok(true)
    }
}

pub(crate) fn too_many_bytes(bounds: Bounds) -> Fault {
    Fault::new(Code::ResultTooLarge, format!("The result has more than {} bytes.", bounds.bytes))
}
