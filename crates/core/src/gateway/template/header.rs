//! Headers: a value stays on its line.

use super::{InvalidTemplate, RenderError, Template, Values, text_of};
use crate::limits;

/// The template of the value of one header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate(Template);

impl HeaderTemplate {
    /// # Errors
    /// As [`Template::parse`].
    pub fn parse(text: &str) -> Result<HeaderTemplate, InvalidTemplate> {
        Template::parse(text).map(HeaderTemplate)
    }

    pub(crate) fn template(&self) -> &Template {
        &self.0
    }

    /// The value, without spaces around it. Control characters become spaces; what is not ASCII stays as it is.
    ///
    /// # Errors
    /// It is too long.
    pub fn render(&self, values: Values<'_>) -> Result<String, RenderError> {
        let whole = self.0.render(("header", limits::GATEWAY_HEADER_BYTES_MAX), |whole, placeholder| {
            whole.push_str(&text_of(values.get(placeholder)));
        })?;
        // Of the template itself, too: a header stays on its line, whoever wrote it.
        Ok(whole.replace(char::is_control, " ").trim().to_owned())
    }
}
