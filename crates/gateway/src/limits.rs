//! Every bound of the gateway's databases on one page, with its unit and reason. Each has a test at the bound.

use std::time::Duration;

/// Nesting of a request: far above what forms and documents need, and what every parser here stands.
pub const JSON_DEPTH_MAX: usize = 64;
/// Body of one operation, bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Name of a table or column, bytes: PostgreSQL cuts longer ones silently.
pub const IDENTIFIER_BYTES_MAX: usize = 63;
/// Columns that one operation names.
pub const COLUMNS_MAX: usize = 256;
/// Conditions and filters of one operation.
pub const FILTERS_MAX: usize = 32;
/// Values of one `in`.
pub const IN_VALUES_MAX: usize = 1000;
/// Sort terms of one fetch.
pub const SORTS_MAX: usize = 8;
/// Rows of a page when the caller names none.
pub const PAGE_ROWS_DEFAULT: u64 = 100;
/// Rows of one page.
pub const PAGE_ROWS_MAX: u64 = 10_000;
/// Rows that a page may begin after: the database reads and drops them.
pub const OFFSET_MAX: u64 = 1_000_000_000;
/// Text of a free query, bytes.
pub const QUERY_BYTES_MAX: usize = 256 * 1024;
/// Operators, keywords and brackets of one statement that may lie within each other: a chain such as `1+1+1…` is a tree as
/// deep as it is long, and this deep a one can be walked on half of a thread's usual stack.
pub const QUERY_LINKS_MAX: usize = 8_000;
/// Parameters of one free query.
pub const PARAMS_MAX: usize = 256;
/// Statements of one free query.
pub const STATEMENTS_MAX: usize = 32;

/// Contract of a public route, bytes.
pub const CONTRACT_BYTES_MAX: usize = 64 * 1024;
/// Tables of one operation of a contract.
pub const CONTRACT_TABLES_MAX: usize = 64;

/// Rows that one operation may return.
pub const ROWS_MAX: u64 = PAGE_ROWS_MAX;
/// One reply, bytes of JSON.
pub const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// One statement, unless a contract allows less.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Changes in one batch out of an outbox.
pub const OUTBOX_BATCH_ROWS_MAX: i64 = 500;
/// Rows of one batch, bytes of JSON, unless its first alone has more.
pub const OUTBOX_BATCH_BYTES_MAX: i64 = 8 * 1024 * 1024;
/// A changed row, bytes of JSON; of a larger one only the key is handed over.
pub const OUTBOX_ROW_BYTES_MAX: i64 = 1024 * 1024;
/// Changes waiting in an outbox that are counted when somebody asks how many there are.
pub const OUTBOX_COUNT_MAX: i64 = 100_000;
/// Tables whose changes one outbox takes, chosen by hand.
pub const OUTBOX_TABLES_MAX: usize = 200;
