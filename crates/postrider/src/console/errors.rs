//! What is wrong with a form, to be said beside the field.

use super::answer::Fault;
use crate::registry::Rejection;

/// By field; without a field it is of the form as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Errors(Vec<(String, String)>);

impl Errors {
    pub(super) fn none() -> Errors {
        Errors::default()
    }

    pub(super) fn one(field: &str, message: impl Into<String>) -> Errors {
        Errors(vec![(field.to_owned(), message.into())])
    }

    /// What a rejection has to say to whoever filled the form in.
    ///
    /// # Errors
    /// It is nothing that another value would mend.
    pub(super) fn of(rejection: Rejection) -> Result<Errors, Fault> {
        Ok(match rejection {
            Rejection::Missing(param) => Errors::one(param, "Fill this in."),
            Rejection::Invalid { param, message } => Errors::one(&param, sentence(after(&param, &message))),
            Rejection::UrlNotAllowed(why) => Errors::one("url", sentence(&why)),
            Rejection::Conflict { param, message } => Errors::one(param, sentence(&message)),
            Rejection::Forbidden { param, message } => Errors::one(&param, sentence(&message)),
            Rejection::LimitReached(message) => Errors::one("", sentence(&message)),
            Rejection::Store(crate::store::Error::Conflict(field)) => Errors::one(field, "This is taken."),
            other => return Err(other.into()),
        })
    }

    /// For a field, or `""`; a list's items (`events[3]`) belong to their field.
    pub(super) fn at(&self, field: &str) -> Option<&str> {
        let is_of = |name: &str| name.split('[').next() == Some(field);
        self.0.iter().find(|(name, _)| is_of(name)).map(|(_, message)| message.as_str())
    }

    /// Whether something is wrong with a field of which `is_meant` is true.
    pub(super) fn is_at_some(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        self.0.iter().any(|(name, _)| is_meant(name))
    }

    /// What none of `fields` says.
    pub(super) fn beside(&self, fields: &[&str]) -> Option<&str> {
        let is_said = |name: &str| fields.iter().any(|field| name.split('[').next() == Some(*field));
        self.0.iter().find(|(name, _)| !is_said(name)).map(|(_, message)| message.as_str())
    }
}

/// What a message says after the field's name, if it begins with it: the page says it beside the field.
fn after<'m>(param: &str, message: &'m str) -> &'m str {
    message.strip_prefix(param).and_then(|rest| rest.strip_prefix(' ')).unwrap_or(message)
}

/// As a sentence: messages of the API begin small and have no full stop.
pub(super) fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    let Some(first) = chars.next() else { return String::new() };
    let end = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{}{}{end}", first.to_uppercase(), chars.as_str())
}
