//! The published contracts that one server speaks: which one a path belongs to, and how its errors look.

use axum::http::StatusCode;

use super::alumia::envelope;
use super::error::ApiError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contract {
    Native,
    Alumia,
}

impl Contract {
    /// The contract of a path, whether or not it exists.
    pub(super) fn of(path: &str) -> Contract {
        let rest = path.strip_prefix("/api/v1/webhooks");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            Contract::Alumia
        } else {
            Contract::Native
        }
    }

    /// Whether query parameters that a call does not know are refused.
    pub(super) fn is_strict(self) -> bool {
        self == Contract::Native
    }

    /// Status and body of an error.
    pub(super) fn error(self, error: &ApiError) -> (StatusCode, Vec<u8>) {
        match self {
            Contract::Native => {
                let body = serde_json::to_vec(&error.body()).expect("three strings are plain JSON");
                (error.code.status(), body)
            }
            Contract::Alumia => envelope::error(error),
        }
    }
}
