//! What PostgreSQL says when it refuses, in the contract's codes.

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, SqlState};

use crate::statement::{Binding, Purpose};
use crate::{Code, Fault};

/// What was asked, for faults that name a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked<'a> {
    Operation(&'a [Binding]),
    Query,
}

/// The fault of a statement that failed on a connection.
pub(crate) fn fault(error: &Error, asked: Asked<'_>) -> Fault {
    let Some(error) = error.as_db_error() else { return lost() };
    let class = class(error);
    let Some(code) = class else { return other(error, asked) };
    if code == Code::BackendUnavailable {
        return unavailable(match error.code().code().get(..2) {
            Some("40") => "The statement met another one that changed the same; it may be tried again.",
            Some("53") => "The database is out of space or memory.",
            _ => "The database does not take statements now.",
        });
    }
    let mut fault = Fault::new(code, sentence(error, code));
    for (name, value) in [("constraint", error.constraint()), ("table", error.table()), ("column", error.column())] {
        if let Some(value) = value {
            fault = fault.with(name, value);
        }
    }
    match (code, asked) {
        (Code::InvalidTableName, Asked::Operation(_)) => fault.at("table_name"),
        (Code::NotNullViolation, Asked::Operation(_)) => match error.column().map(str::to_owned) {
            Some(column) => fault.at(column),
            None => fault,
        },
        _ => fault,
    }
}

/// A connection that ended before it answered.
pub(crate) fn lost() -> Fault {
    unavailable("The connection to the database was lost.")
}

pub(crate) fn unavailable(message: &str) -> Fault {
    Fault::new(Code::BackendUnavailable, message)
}

/// A login that failed, in words that hold nothing of the address.
pub(crate) fn refused(error: &Error) -> Fault {
    let Some(error) = error.as_db_error() else { return unavailable("The database cannot be reached.") };
    let code = error.code();
    let message = if *code == SqlState::INVALID_PASSWORD || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION {
        "The database refuses the login."
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        "The server has no such database."
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        "The database takes no more connections."
    } else {
        "The database refuses the connection."
    };
    unavailable(message)
}

/// Whether the server has ended the connection, or it has ended otherwise.
pub(crate) fn is_fatal(error: &Error) -> bool {
    use tokio_postgres::error::Severity;
    match error.as_db_error() {
        Some(error) => matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
        None => {
            error.is_closed() || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
        }
    }
}

/// Whether the server refuses a text with these words in it.
pub(crate) fn says(error: &Error, words: &str) -> bool {
    let text = SqlState::INVALID_TEXT_REPRESENTATION;
    error.as_db_error().is_some_and(|error| *error.code() == text && error.message().contains(words))
}

/// Whether a prepared statement may have failed because the tables have changed since it was prepared.
pub(crate) fn may_be_stale(error: &Error) -> bool {
    let Some(code) = error.code() else { return false };
    code.code().starts_with("22")
        || [
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::DATATYPE_MISMATCH,
            SqlState::INVALID_SQL_STATEMENT_NAME,
            SqlState::UNDEFINED_OBJECT,
            SqlState::CANNOT_COERCE,
        ]
        .contains(code)
}

fn class(error: &DbError) -> Option<Code> {
    let code = error.code();
    let known = [
        (SqlState::UNIQUE_VIOLATION, Code::UniqueViolation),
        (SqlState::FOREIGN_KEY_VIOLATION, Code::ForeignKeyViolation),
        (SqlState::RESTRICT_VIOLATION, Code::ForeignKeyViolation),
        (SqlState::NOT_NULL_VIOLATION, Code::NotNullViolation),
        (SqlState::CHECK_VIOLATION, Code::CheckViolation),
        (SqlState::EXCLUSION_VIOLATION, Code::CheckViolation),
        (SqlState::UNDEFINED_TABLE, Code::InvalidTableName),
        (SqlState::INVALID_SCHEMA_NAME, Code::InvalidTableName),
        (SqlState::UNDEFINED_COLUMN, Code::InvalidColumnName),
        (SqlState::INSUFFICIENT_PRIVILEGE, Code::PermissionDenied),
        (SqlState::READ_ONLY_SQL_TRANSACTION, Code::ReadOnlyViolation),
        (SqlState::QUERY_CANCELED, Code::StatementTimeout),
        (SqlState::LOCK_NOT_AVAILABLE, Code::StatementTimeout),
        (SqlState::CANNOT_CONNECT_NOW, Code::BackendUnavailable),
        (SqlState::ADMIN_SHUTDOWN, Code::BackendUnavailable),
        (SqlState::CRASH_SHUTDOWN, Code::BackendUnavailable),
        (SqlState::TOO_MANY_CONNECTIONS, Code::BackendUnavailable),
        (SqlState::DISK_FULL, Code::BackendUnavailable),
        (SqlState::OUT_OF_MEMORY, Code::BackendUnavailable),
        (SqlState::T_R_SERIALIZATION_FAILURE, Code::BackendUnavailable),
        (SqlState::T_R_DEADLOCK_DETECTED, Code::BackendUnavailable),
    ];
    known.into_iter().find(|(state, _)| state == code).map(|(_, code)| code)
}

fn sentence(error: &DbError, code: Code) -> String {
    match code {
        Code::StatementTimeout => "The statement took too long and was stopped.".to_owned(),
        _ => said(error),
    }
}

fn said(error: &DbError) -> String {
    let mut message: String = error.message().chars().take(500).collect();
    if let Some(first) = message.get(..1).map(str::to_uppercase) {
        message.replace_range(..1, &first);
    }
    message.push('.');
    message
}

/// A value that its type does not take, an operator that a type does not have, or any other refusal.
fn other(error: &DbError, asked: Asked<'_>) -> Fault {
    let Asked::Operation(bindings) = asked else {
        let fault = Fault::new(Code::QuerySqlExecutionFailed, said(error));
        return fault.with("sqlstate", error.code().code());
    };
    let named = error.where_().and_then(parameter).and_then(|number| bindings.get(number - 1));
    // Without a word of which parameter it was, an only one leaves no doubt.
    let mut about = bindings.iter().filter(|binding| binding.column.is_some());
    let binding = named.or(match (about.next(), about.next()) {
        (only, None) => only,
        _ => None,
    });
    let code = match binding.map(|binding| binding.purpose) {
        Some(Purpose::Condition) => Code::InvalidConditionValue,
        Some(Purpose::Payload) => Code::InvalidValue,
        None if bindings.iter().any(|binding| binding.purpose == Purpose::Payload) => Code::InvalidValue,
        None => Code::InvalidConditionValue,
    };
    let fault = Fault::new(code, said(error)).with("sqlstate", error.code().code());
    match binding {
        Some(binding) => fault.at(binding.field.clone()),
        None => fault,
    }
}

/// The number in "unnamed portal parameter $2 = '…'".
fn parameter(context: &str) -> Option<usize> {
    let (_, rest) = context.split_once("parameter $")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|number| *number > 0)
}
