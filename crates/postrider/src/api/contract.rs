//! The published contracts that one server speaks: which one a path belongs to, and how its errors look.

use axum::http::StatusCode;

use super::error::ApiError;
use super::{alumia, athena, scaikey};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contract {
    Native,
    Alumia,
    Scaikey,
    Athena,
}

/// What is below a contract's prefix is its own, whether or not it exists.
const PREFIXES: [(&str, Contract); 5] = [
    ("/api/v1/webhooks", Contract::Alumia),
    ("/api/v1/admin", Contract::Scaikey),
    ("/admin", Contract::Athena),
    ("/gateway", Contract::Athena),
    ("/public", Contract::Athena),
];

impl Contract {
    /// The contract of a path, whether or not it exists.
    pub(super) fn of(path: &str) -> Contract {
        let is_below = |prefix: &str| {
            let rest = path.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let found = PREFIXES.into_iter().find(|(prefix, _)| is_below(prefix));
        found.map_or(Contract::Native, |(_, contract)| contract)
    }

    /// Whether query parameters that a call does not know are refused.
    pub(super) fn is_strict(self) -> bool {
        self == Contract::Native
    }

    /// Whether a path with a slash at its end is the same as without.
    pub(super) fn takes_last_slash(self) -> bool {
        self == Contract::Scaikey
    }

    /// Status and body of an error.
    pub(super) fn error(self, error: &ApiError) -> (StatusCode, Vec<u8>) {
        match self {
            Contract::Native => {
                let body = serde_json::to_vec(&error.body()).expect("three strings are plain JSON");
                (error.code.status(), body)
            }
            Contract::Alumia => alumia::envelope::error(error),
            Contract::Scaikey => scaikey::envelope::error(error),
            Contract::Athena => athena::envelope::error(error),
        }
    }
}
