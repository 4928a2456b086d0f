//! Which event types a webhook wants.

use serde::{Deserialize, Serialize};

/// Event-type patterns: exact names, `prefix.*`, or everything (`[]` or `["*"]`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subscriptions(pub Vec<String>);

/// A pattern or event type that is not well formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidEventType(pub String);

impl Subscriptions {
    /// Checks every pattern and removes repeats.
    ///
    /// # Errors
    /// The first pattern that is not well formed, or too many of them.
    pub fn parse(patterns: &[String]) -> Result<Subscriptions, InvalidEventType> {
        let _ = patterns;
        unimplemented!("core")
    }

    /// Whether `event_type` is wanted.
    pub fn matches(&self, event_type: &str) -> bool {
        let _ = event_type;
        unimplemented!("core")
    }
}

/// Checks the name of an event type: 1 to 128 characters of `A-Z a-z 0-9 . _ - /`, starting and ending with a letter or digit.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_event_type(name: &str) -> Result<(), InvalidEventType> {
    let _ = name;
    unimplemented!("core")
}
