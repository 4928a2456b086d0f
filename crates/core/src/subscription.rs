//! Which event types a webhook wants.

use serde::{Deserialize, Serialize};

use crate::limits;

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
        let mut kept: Vec<String> = Vec::new();
        for pattern in patterns {
            check_pattern(pattern)?;
            if kept.contains(pattern) {
                continue;
            }
            if kept.len() == limits::SUBSCRIPTIONS_MAX {
                let most = limits::SUBSCRIPTIONS_MAX;
                return Err(InvalidEventType(format!("at most {most} event types can be subscribed to")));
            }
            kept.push(pattern.clone());
        }
        Ok(Subscriptions(kept))
    }

    /// Whether `event_type` is wanted.
    ///
    /// `user.*` stands for everything that starts with `user.` and goes on: `user.created` and `user.key.added`, but
    /// neither `user` nor `users.created`. Upper and lower case differ. Postrider's own events go only to who names them
    /// (`postrider.*`, or one of them): "everything" means everything of the publisher's.
    pub fn matches(&self, event_type: &str) -> bool {
        if is_reserved(event_type) {
            return self.0.iter().any(|pattern| is_reserved(pattern) && pattern_matches(pattern, event_type));
        }
        self.0.is_empty() || self.0.iter().any(|pattern| pattern_matches(pattern, event_type))
    }
}

fn pattern_matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => event_type.len() > prefix.len() && event_type.starts_with(prefix),
        None => pattern == event_type,
    }
}

fn check_pattern(pattern: &str) -> Result<(), InvalidEventType> {
    match pattern {
        "*" => Ok(()),
        _ => check_event_type(pattern.strip_suffix(".*").unwrap_or(pattern)),
    }
}

/// Checks the name of an event type: 1 to 128 characters of `A-Z a-z 0-9 . _ - /`, starting and ending with a letter or digit.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_event_type(name: &str) -> Result<(), InvalidEventType> {
    let wrong = |what: &str| Err(InvalidEventType(format!("event type {} {what}", shown(name))));
    if name.is_empty() {
        return Err(InvalidEventType("an event type must not be empty".into()));
    }
    if name.len() > limits::EVENT_TYPE_BYTES_MAX {
        return wrong(&format!("is longer than {} characters", limits::EVENT_TYPE_BYTES_MAX));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte)) {
        return wrong(
            "may only have the characters A-Z a-z 0-9 . _ - / (and a trailing .* where patterns are allowed)",
        );
    }
    let ends = [name.as_bytes()[0], name.as_bytes()[name.len() - 1]];
    if !ends.iter().all(u8::is_ascii_alphanumeric) {
        return wrong("must start and end with a letter or digit");
    }
    Ok(())
}

/// What the types of Postrider's own events begin with.
pub const RESERVED_PREFIX: &str = "postrider.";

/// Whether only Postrider itself may publish events of this type.
pub fn is_reserved(event_type: &str) -> bool {
    event_type.starts_with(RESERVED_PREFIX)
}

/// The start of a name, fit for a message.
fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(limits::EVENT_TYPE_BYTES_MAX).collect::<String>())
}

#[cfg(test)]
mod tests;
