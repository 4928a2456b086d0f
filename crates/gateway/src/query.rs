//! Rules for free SQL, decided by a real parser before any connection is taken.
//!
//! - A text is split into statements by its tokens; each is parsed alone, and what is run is the caller's own text.
//! - Allowed are reads (`SELECT`, `VALUES`, `WITH`, `EXPLAIN`, `SHOW`), writes (`INSERT`, `UPDATE`, `DELETE`,
//!   `MERGE`, `TRUNCATE`, `CALL`), DDL, `COMMENT`, `GRANT`, `REVOKE`, `ANALYZE`, `NOTIFY`, and in `per_statement` mode
//!   also `VACUUM`. Everything else is refused: `COPY`, transaction control (the mode decides), `SET` and
//!   `SET ROLE` (the gateway's sessions are shared by its callers), `LISTEN`, `PREPARE`, `DECLARE`, `LOAD`, `ATTACH`,
//!   `PRAGMA`, and whatever the parser does not know, such as `DO`.
//! - Where nothing may be written, a statement that writes by its form is refused here; a function that writes is refused
//!   by the database, since the statement runs in a `READ ONLY` transaction or on a read-only file.
//!
//! The parser is not the boundary between a caller and what its database account may do: the account is.

mod names;
mod schema;
#[cfg(test)]
mod tests;

use sqlparser::ast::{self, SetExpr, Statement};
use sqlparser::dialect::{Dialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

pub use names::Named;
pub use schema::{SchemaChange, SchemaKind};

use crate::limits::{QUERY_LINKS_MAX, STATEMENTS_MAX};
use crate::operation::Mode;
use crate::uri::Backend;
use crate::{Code, Fault};

/// A text that may be run.
#[derive(Clone, Debug)]
pub struct Script {
    pub(crate) pieces: Vec<Piece>,
}

/// One statement.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The caller's text, without its semicolon.
    pub(crate) sql: String,
    pub(crate) form: Form,
    pub(crate) writes: bool,
    changes: Vec<SchemaChange>,
}

/// How rows are got out of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Anything that can stand behind `FROM`; the place where it begins after its `WITH` list.
    Rows { body: usize },
    /// A write with `RETURNING`, likewise.
    Returning { body: usize },
    /// Rows of simple types, or none.
    Direct,
}

impl Script {
    /// # Errors
    /// `empty_query`, `statement_not_allowed`, `read_only_violation`, or `query_sql_execution_failed` for what is no SQL.
    pub fn parse(backend: Backend, sql: &str, mode: Mode, read_only: bool) -> Result<Script, Fault> {
        if sql.contains('\0') {
            return Err(not_sql("The query holds the character NUL."));
        }
        // PostgreSQL ends a comment there and the parser does not: what one skips the other would run.
        if sql.replace("\r\n", "").contains('\r') {
            return Err(not_sql("The query holds a carriage return without a line feed."));
        }
        let dialect: &dyn Dialect = match backend {
            Backend::Postgres => &PostgreSqlDialect {},
            Backend::Sqlite => &SQLiteDialect {},
        };
        let tokens = Tokenizer::new(dialect, sql).tokenize_with_location();
        let tokens = tokens.map_err(|error| not_sql(&format!("The query is no SQL: {error}.")))?;
        let offsets = Offsets::new(sql);
        let mut pieces = Vec::new();
        for tokens in split(tokens) {
            pieces.push(piece(dialect, sql, &offsets, tokens, mode)?);
            if pieces.len() > STATEMENTS_MAX {
                let message = format!("A query may hold at most {STATEMENTS_MAX} statements.");
                return Err(Fault::new(Code::InvalidQueryPayload, message).at("query"));
            }
        }
        if pieces.is_empty() {
            return Err(Fault::new(Code::EmptyQuery, "The query holds no statement.").at("query"));
        }
        if read_only && pieces.iter().any(|piece| piece.writes) {
            let message = "Nothing may be written here.";
            return Err(Fault::new(Code::ReadOnlyViolation, message).at("query"));
        }
        Ok(Script { pieces })
    }

    pub fn statement_count(&self) -> usize {
        self.pieces.len()
    }

    /// Each statement, as the caller wrote it, and whether it writes by its form.
    pub fn statements(&self) -> impl Iterator<Item = (&str, bool)> {
        self.pieces.iter().map(|piece| (piece.sql.as_str(), piece.writes))
    }

    /// Whether any statement writes by its form; a function may write all the same.
    pub fn writes(&self) -> bool {
        self.pieces.iter().any(|piece| piece.writes)
    }

    /// The changes of the schema, in the order of the statements.
    pub fn schema_changes(&self) -> impl Iterator<Item = &SchemaChange> {
        self.pieces.iter().flat_map(|piece| &piece.changes)
    }
}

fn not_sql(message: &str) -> Fault {
    Fault::new(Code::QuerySqlExecutionFailed, message).at("query")
}

fn not_allowed(message: &str) -> Fault {
    Fault::new(Code::StatementNotAllowed, message).at("query")
}

/// Cuts at semicolons; those inside the body of a trigger are its own.
fn split(tokens: Vec<TokenWithSpan>) -> Vec<Vec<TokenWithSpan>> {
    let mut pieces = vec![Vec::new()];
    let mut trigger = false;
    for token in tokens {
        let current = pieces.last_mut().expect("there is always one");
        if token.token == Token::SemiColon && (!trigger || ends_trigger(current)) {
            trigger = false;
            pieces.push(Vec::new());
            continue;
        }
        current.push(token);
        trigger = trigger || begins_trigger(current);
    }
    let means = |tokens: &Vec<TokenWithSpan>| words(tokens).next().is_some();
    pieces.retain(means);
    pieces
}

/// The tokens that mean something.
fn words(tokens: &[TokenWithSpan]) -> impl DoubleEndedIterator<Item = &TokenWithSpan> {
    tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
}

fn keyword(token: &TokenWithSpan) -> Keyword {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

/// `CREATE [TEMP] TRIGGER … BEGIN`, as SQLite has it.
fn begins_trigger(tokens: &[TokenWithSpan]) -> bool {
    let mut heads = words(tokens).map(keyword);
    heads.next() == Some(Keyword::CREATE)
        && heads.by_ref().take(2).any(|word| word == Keyword::TRIGGER)
        && words(tokens).next_back().map(keyword) == Some(Keyword::BEGIN)
}

fn ends_trigger(tokens: &[TokenWithSpan]) -> bool {
    words(tokens).next_back().map(keyword) == Some(Keyword::END)
}

fn piece(
    dialect: &dyn Dialect,
    sql: &str,
    offsets: &Offsets,
    tokens: Vec<TokenWithSpan>,
    mode: Mode,
) -> Result<Piece, Fault> {
    let (first, last) = (words(&tokens).next(), words(&tokens).next_back());
    let (Some(first), Some(last)) = (first, last) else { return Err(not_sql("The query is no SQL.")) };
    let (start, end) = (offsets.of(sql, first.span.start), offsets.of(sql, last.span.end));
    let body = offsets.of(sql, body(&tokens).unwrap_or(first.span.start)).saturating_sub(start);
    let text = sql.get(start..end).ok_or_else(|| not_sql("The query is no SQL."))?.to_owned();
    let wrong = |error| match error {
        ParserError::RecursionLimitExceeded => not_sql("The query is nested too deeply."),
        error => not_sql(&format!("The query is no SQL that the gateway knows: {error}.")),
    };
    if links(&tokens) > QUERY_LINKS_MAX {
        return Err(not_sql("The query is nested too deeply."));
    }
    let mut parser = Parser::new(dialect).with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().map_err(wrong)?;
    if parser.peek_token().token != Token::EOF {
        return Err(not_sql("The query is no SQL that the gateway knows: something follows the end of a statement."));
    }
    let (writes, form) = judge(&statement, body, mode)?;
    Ok(Piece { sql: text, form, writes, changes: schema::changes(&statement) })
}

/// How deep the tree of a statement may become, at most: the parser bounds its own recursion, but what it reads in a loop
/// (operators, `UNION`, casts) nests as well. Elements of a list do not lie within each other.
fn links(tokens: &[TokenWithSpan]) -> usize {
    let (mut around, mut here, mut deepest) = (Vec::new(), 0_usize, 0_usize);
    let mut outside = 0_usize;
    for token in words(tokens) {
        match &token.token {
            Token::Comma => here = 0,
            Token::LParen | Token::LBracket | Token::LBrace => {
                around.push(here + 1);
                outside += here + 1;
                here = 0;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                if let Some(before) = around.pop() {
                    outside -= before;
                    here = before;
                }
            }
            Token::Word(word) if word.keyword == Keyword::NoKeyword => {}
            Token::Number(..) | Token::SingleQuotedString(_) => {}
            _ => here += 1,
        }
        deepest = deepest.max(outside + here);
    }
    deepest
}

/// Where a statement begins after its list of common table expressions.
fn body(tokens: &[TokenWithSpan]) -> Option<Location> {
    let mut depth = 0_usize;
    for token in words(tokens) {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ if depth == 0 => {}
            _ => continue,
        }
        let begins = [
            Keyword::SELECT,
            Keyword::VALUES,
            Keyword::TABLE,
            Keyword::INSERT,
            Keyword::UPDATE,
            Keyword::DELETE,
            Keyword::MERGE,
            Keyword::REPLACE,
        ];
        if depth == 0 && begins.contains(&keyword(token)) {
            return Some(token.span.start);
        }
    }
    None
}

/// Whether it writes and how its rows are got, or why it is refused.
fn judge(statement: &Statement, body: usize, mode: Mode) -> Result<(bool, Form), Fault> {
    let returning = |yes: bool| if yes { Form::Returning { body } } else { Form::Direct };
    Ok(match statement {
        Statement::Query(query) => return judge_query(query, body),
        Statement::Insert(insert) => (true, returning(insert.returning.is_some())),
        Statement::Update(update) => (true, returning(update.returning.is_some())),
        Statement::Delete(delete) => (true, returning(delete.returning.is_some())),
        Statement::Merge(_) | Statement::Truncate(_) | Statement::Call(_) | Statement::NOTIFY { .. } => {
            (true, Form::Direct)
        }
        Statement::ShowVariable { .. } => (false, Form::Direct),
        Statement::Explain { statement, .. } => (judge(statement, body, mode)?.0, Form::Direct),
        Statement::Vacuum(_) if mode == Mode::PerStatement => (true, Form::Direct),
        Statement::Vacuum(_) => return Err(not_allowed("VACUUM runs in per_statement mode only.")),
        statement if defines(statement) => (true, Form::Direct),
        Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. } => {
            return Err(not_allowed("Transactions are begun and ended by execution_mode, not by statements."));
        }
        Statement::Copy { .. } => return Err(not_allowed("COPY is not allowed.")),
        Statement::Set(_) | Statement::Reset(_) => {
            return Err(not_allowed("Settings of the session may not be changed."));
        }
        _ => return Err(not_allowed("This kind of statement is not allowed.")),
    })
}

fn judge_query(query: &ast::Query, body: usize) -> Result<(bool, Form), Fault> {
    // A parenthesis before the first word of the body belongs to it; then the whole text is the body.
    let body = if query.with.is_none() { 0 } else { body };
    let writes = writes_within(query);
    let form = match query.body.as_ref() {
        SetExpr::Insert(statement) | SetExpr::Update(statement) | SetExpr::Delete(statement) => {
            let (_, form) = judge(statement, body, Mode::SingleTransaction)?;
            return Ok((true, form));
        }
        SetExpr::Merge(_) => return Ok((true, Form::Direct)),
        // `SELECT INTO` makes a table and gives no rows.
        body_of if makes_table(body_of) => return Ok((true, Form::Direct)),
        _ => Form::Rows { body },
    };
    Ok((writes, form))
}

/// Whether a common table expression at any depth writes.
fn writes_within(query: &ast::Query) -> bool {
    let within = query.with.iter().flat_map(|with| &with.cte_tables).any(|table| writes_within(&table.query));
    within || writes_as_body(&query.body)
}

fn writes_as_body(body: &SetExpr) -> bool {
    match body {
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => true,
        SetExpr::Query(query) => writes_within(query),
        SetExpr::SetOperation { left, right, .. } => writes_as_body(left) || writes_as_body(right),
        other => makes_table(other),
    }
}

fn makes_table(body: &SetExpr) -> bool {
    matches!(body, SetExpr::Select(select) if select.into.is_some())
}

/// DDL and its like: whatever changes definitions and gives no rows.
fn defines(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::CreateTable(_)
            | Statement::CreateView(_)
            | Statement::CreateVirtualTable { .. }
            | Statement::CreateIndex(_)
            | Statement::CreateExtension(_)
            | Statement::CreateFunction(_)
            | Statement::CreateProcedure { .. }
            | Statement::CreateTrigger(_)
            | Statement::CreatePolicy(_)
            | Statement::CreateSequence { .. }
            | Statement::CreateDomain(_)
            | Statement::CreateType { .. }
            | Statement::CreateSchema { .. }
            | Statement::CreateCollation(_)
            | Statement::AlterTable(_)
            | Statement::AlterIndex { .. }
            | Statement::AlterView { .. }
            | Statement::AlterSchema(_)
            | Statement::AlterType(_)
            | Statement::AlterFunction(_)
            | Statement::AlterPolicy(_)
            | Statement::Drop { .. }
            | Statement::DropExtension(_)
            | Statement::DropFunction(_)
            | Statement::DropProcedure { .. }
            | Statement::DropDomain(_)
            | Statement::DropTrigger(_)
            | Statement::DropPolicy(_)
            | Statement::Comment { .. }
            | Statement::Grant(_)
            | Statement::Revoke(_)
            | Statement::Analyze(_)
    )
}

/// From the tokenizer's lines and columns to places in the text.
pub(crate) struct Offsets(Vec<usize>);

impl Offsets {
    pub(crate) fn new(sql: &str) -> Offsets {
        let ends = sql.char_indices().filter(|(_, c)| *c == '\n').map(|(at, _)| at + 1);
        Offsets(std::iter::once(0).chain(ends).collect())
    }

    pub(crate) fn of(&self, sql: &str, place: Location) -> usize {
        let index = |number: u64| usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let start = self.0.get(index(place.line)).copied().unwrap_or(sql.len());
        let line = sql.get(start..).unwrap_or_default();
        start + line.char_indices().nth(index(place.column)).map_or(line.len(), |(at, _)| at)
    }
}
