//! Free SQL, and a second judge of it: SQLite itself, which knows of each statement whether it writes.

use std::cell::RefCell;
use std::collections::BTreeSet;

use postrider_gateway::Backend;
use postrider_gateway::limits::STATEMENTS_MAX;
use postrider_gateway::operation::Mode;
use postrider_gateway::query::{Named, Script};
use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::{Batch, Connection};

/// What a query can name.
const TABLES: &str = "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c REAL);
                      CREATE TABLE u (a INTEGER, b BLOB);
                      CREATE VIEW v AS SELECT a, b FROM t;
                      CREATE VIRTUAL TABLE f USING fts5 (b)";

thread_local! {
    static JUDGE: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// - Nothing overflows the stack, however the text nests.
/// - A statement is one statement for SQLite, too.
/// - What is said to write nothing writes nothing, and is one that begins as such statements do.
/// - Where nothing may be written, what is allowed is said to write nothing.
///
/// # Panics
/// If one of these does not hold.
pub fn queries(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for mode in [Mode::SingleTransaction, Mode::PerStatement] {
        for backend in [Backend::Postgres, Backend::Sqlite] {
            let parsed = Script::parse(backend, &text, mode, false);
            let read_only = Script::parse(backend, &text, mode, true);
            let Ok(script) = parsed else {
                assert!(read_only.is_err(), "refused in general, and allowed where nothing may be written");
                continue;
            };
            assert!((1..=STATEMENTS_MAX).contains(&script.statement_count()));
            assert_eq!(read_only.is_ok(), !script.writes(), "{text}");
            script.schema_changes().for_each(|change| assert!(!change.kind.as_str().is_empty()));
            for (sql, writes) in script.statements() {
                assert!(text.contains(sql), "{sql} is not the caller's own text");
                assert!(writes || begins_as_reads_do(sql), "said to write nothing: {sql}");
                if backend == Backend::Sqlite {
                    judge(sql, writes);
                }
            }
        }
    }
    let declared: BTreeSet<String> = ["a", "sku"].map(str::to_owned).into();
    if let Ok(named) = Named::parse(&text, &declared) {
        assert!(named.names.len() == declared.len() && named.names.iter().all(|name| declared.contains(name)));
    }
}

/// Its first word, behind comments and parentheses.
fn begins_as_reads_do(sql: &str) -> bool {
    let mut rest = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    loop {
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = behind_comment(comment);
        } else {
            break;
        }
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    ["SELECT", "VALUES", "WITH", "EXPLAIN", "DESCRIBE", "DESC", "SHOW", "TABLE", "FROM"]
        .contains(&word.to_ascii_uppercase().as_str())
}

/// Comments nest in PostgreSQL.
fn behind_comment(text: &str) -> &str {
    let (mut depth, mut rest) = (1, text);
    while depth > 0 {
        let (open, close) = (rest.find("/*"), rest.find("*/"));
        let Some(close) = close else { return "" };
        (depth, rest) = match open.filter(|open| *open < close) {
            Some(open) => (depth + 1, &rest[open + 2..]),
            None => (depth - 1, &rest[close + 2..]),
        };
    }
    rest
}

fn judge(sql: &str, writes: bool) {
    JUDGE.with_borrow_mut(|judge| {
        let connection = judge.get_or_insert_with(|| {
            let connection = Connection::open_in_memory().expect("memory is there");
            connection.execute_batch(TABLES).expect("the tables are good");
            connection
        });
        let mut batch = Batch::new(connection, sql);
        let Ok(Some(first)) = batch.next() else { return };
        assert!(writes || first.readonly(), "SQLite says that this writes: {sql}");
        drop(first);
        let second = batch.next();
        assert!(!matches!(second, Ok(Some(_))), "SQLite sees more than one statement in: {sql}");
    });
}
