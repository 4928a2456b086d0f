//! What SQLite says when it refuses, in the contract's codes.

use rusqlite::{Error, ErrorCode, ffi};

use crate::{Code, Fault};

/// The fault of a failed statement; `code` is for what has no code of its own.
pub(super) fn fault(error: &Error, code: Code) -> Fault {
    let (Error::SqliteFailure(failure, _) | Error::SqlInputError { error: failure, .. }) = error else {
        return Fault::new(code, "The database refuses the statement.");
    };
    let said = said(error);
    if failure.code == ErrorCode::ConstraintViolation {
        return constraint(failure.extended_code, &said);
    }
    let unavailable = |message: &str| Fault::new(Code::BackendUnavailable, message);
    match failure.code {
        ErrorCode::OperationInterrupted | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            Fault::new(Code::StatementTimeout, "The statement took too long and was stopped.")
        }
        ErrorCode::ReadOnly => Fault::new(Code::ReadOnlyViolation, "Nothing may be written here."),
        ErrorCode::AuthorizationForStatementDenied => {
            Fault::new(Code::StatementNotAllowed, "The statement uses something that is not allowed.")
        }
        ErrorCode::TooBig => Fault::new(Code::ResultTooLarge, "A value is too large."),
        ErrorCode::DiskFull => unavailable("The database's disk is full."),
        ErrorCode::SystemIoFailure | ErrorCode::CannotOpen => {
            unavailable("The database file cannot be read or written.")
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => unavailable("The database file is damaged."),
        _ if said.starts_with("no such table") => Fault::new(Code::InvalidTableName, sentence(&said)),
        _ if said.contains("no such column") || said.contains("has no column named") => {
            Fault::new(Code::InvalidColumnName, sentence(&said))
        }
        _ => Fault::new(code, sentence(&said)),
    }
}

fn said(error: &Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) => message.clone(),
        Error::SqlInputError { msg, .. } => msg.clone(),
        _ => "the database refuses the statement".to_owned(),
    }
}

fn sentence(said: &str) -> String {
    let mut message: String = said.chars().take(500).collect();
    if let Some(first) = message.get(..1).map(str::to_uppercase) {
        message.replace_range(..1, &first);
    }
    message + "."
}

/// "UNIQUE constraint failed: orders.sku" and its like.
fn constraint(extended: i32, said: &str) -> Fault {
    let about = said.split_once(": ").map(|(_, about)| about.to_owned());
    let code = match extended {
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID => {
            Code::UniqueViolation
        }
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => Code::ForeignKeyViolation,
        ffi::SQLITE_CONSTRAINT_NOTNULL => Code::NotNullViolation,
        ffi::SQLITE_CONSTRAINT_DATATYPE => Code::InvalidValue,
        _ => Code::CheckViolation,
    };
    let fault = Fault::new(code, sentence(said));
    match (code, about) {
        (Code::NotNullViolation, Some(about)) => {
            let column = about.rsplit_once('.').map_or(about.as_str(), |(_, column)| column).to_owned();
            fault.with("column", column.clone()).at(column)
        }
        (_, Some(about)) => fault.with("constraint", about),
        (_, None) => fault,
    }
}
