//! Why an operation was not done, in the contract's codes.

use std::fmt;

/// A closed set: each code has one name and one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    MissingRequestBody,
    MalformedJsonPayload,
    MissingTableName,
    MissingField,
    MissingResourceId,
    MissingUpdatePayload,
    MissingConditions,
    InvalidConditionValue,
    InvalidFetchCondition,
    InvalidSchemaTableSelector,
    InvalidTableName,
    InvalidColumnName,
    /// A field of the request has the wrong type or is out of its bounds.
    InvalidField,
    /// A value that its column does not take.
    InvalidValue,
    InvalidQueryPayload,
    EmptyQuery,
    /// A statement that the gateway never runs, or not in this mode.
    StatementNotAllowed,
    /// Something would have been written where the caller demanded that nothing is.
    ReadOnlyViolation,
    ForeignKeyViolation,
    NotNullViolation,
    CheckViolation,
    UniqueViolation,
    /// The database's account may not do that.
    PermissionDenied,
    StatementTimeout,
    /// More rows or bytes than a reply may have.
    ResultTooLarge,
    QuerySqlExecutionFailed,
    BackendUnavailable,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::MissingRequestBody => "missing_request_body",
            Code::MalformedJsonPayload => "malformed_json_payload",
            Code::MissingTableName => "missing_table_name",
            Code::MissingField => "missing_field",
            Code::MissingResourceId => "missing_resource_id",
            Code::MissingUpdatePayload => "missing_update_payload",
            Code::MissingConditions => "missing_conditions",
            Code::InvalidConditionValue => "invalid_condition_value",
            Code::InvalidFetchCondition => "invalid_fetch_condition",
            Code::InvalidSchemaTableSelector => "invalid_schema_table_selector",
            Code::InvalidTableName => "invalid_table_name",
            Code::InvalidColumnName => "invalid_column_name",
            Code::InvalidField => "invalid_field",
            Code::InvalidValue => "invalid_value",
            Code::InvalidQueryPayload => "invalid_query_payload",
            Code::EmptyQuery => "empty_query",
            Code::StatementNotAllowed => "statement_not_allowed",
            Code::ReadOnlyViolation => "read_only_violation",
            Code::ForeignKeyViolation => "foreign_key_violation",
            Code::NotNullViolation => "not_null_violation",
            Code::CheckViolation => "check_violation",
            Code::UniqueViolation => "unique_violation",
            Code::PermissionDenied => "permission_denied",
            Code::StatementTimeout => "statement_timeout",
            Code::ResultTooLarge => "result_too_large",
            Code::QuerySqlExecutionFailed => "query_sql_execution_failed",
            Code::BackendUnavailable => "backend_unavailable",
        }
    }

    /// The HTTP status of a reply with this code.
    pub fn status(self) -> u16 {
        match self {
            Code::UniqueViolation => 409,
            Code::BackendUnavailable => 503,
            _ => 400,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An operation that was refused or failed. Holds nothing that a caller may not see: no address, no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    /// One sentence for a person.
    pub message: String,
    /// The field of the request that it is about, such as `conditions[0].eq_column`.
    pub field: Option<String>,
    /// What a program may want to know, such as `constraint`.
    pub details: Vec<(&'static str, String)>,
}

impl Fault {
    pub fn new(code: Code, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), field: None, details: Vec::new() }
    }

    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Fault {
        self.field = Some(field.into());
        self
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Fault {
        self.details.push((name, value.into()));
        self
    }

    pub fn status(&self) -> u16 {
        self.code.status()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}: {} ({field})", self.code, self.message),
            None => write!(f, "{}: {}", self.code, self.message),
        }
    }
}

impl std::error::Error for Fault {}
