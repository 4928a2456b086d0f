//! URLs: a value is one piece of a path, a query or a fragment, and nothing more.

use ::url::Url;

use super::{InvalidTemplate, Part, RenderError, Template, Values, text_of};
use crate::limits;

/// The template of a URL whose scheme, host and port are fixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlTemplate {
    origin: Url,
    /// What comes behind the authority.
    tail: Template,
}

impl UrlTemplate {
    /// # Errors
    /// It is no http or https URL, or a placeholder could change where it leads.
    pub fn parse(text: &str) -> Result<UrlTemplate, InvalidTemplate> {
        let no = |problem: &str| Err(InvalidTemplate(problem.to_owned()));
        if text.len() > limits::URL_BYTES_MAX {
            return no(&format!("is longer than {} bytes", limits::URL_BYTES_MAX));
        }
        let Some((scheme, rest)) = text.split_once("://") else { return no("must be an http or https URL") };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if [scheme, authority].iter().any(|part| part.contains("{{") || part.contains("}}")) {
            return no("must not have placeholders before its path");
        }
        if authority.contains(['@', '\\']) || authority.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return no("must have a plain host, without credentials");
        }
        let origin = match Url::parse(&format!("{scheme}://{authority}/")) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            _ => return no("must be an http or https URL"),
        };
        let tail = Template::parse(tail)?;
        for part in tail.parts() {
            if let Part::Text(text) = part
                && text.chars().any(|c| c == '\\' || c.is_control() || c.is_whitespace())
            {
                return no("must not have backslashes, spaces or control characters");
            }
        }
        // With plain values it has to be one, so that what is wrong with it is said now.
        let template = UrlTemplate { origin, tail };
        match template.fill(|whole, _| whole.push('x')) {
            Ok(_) => Ok(template),
            Err(error @ RenderError::TooLong { .. }) => no(&format!("is too long: {error}")),
            Err(RenderError::DotSegment) => no("must not have `.` or `..` as a segment of its path"),
            Err(_) => no("must be an http or https URL"),
        }
    }

    /// Scheme, host and port that every request goes to.
    pub fn origin(&self) -> &Url {
        &self.origin
    }

    pub(crate) fn tail(&self) -> &Template {
        &self.tail
    }

    /// The URL with these values, percent-encoded.
    ///
    /// # Errors
    /// It is too long, or a value would change the path around it.
    pub fn render(&self, values: Values<'_>) -> Result<Url, RenderError> {
        self.fill(|whole, placeholder| percent_encode(whole, &text_of(values.get(placeholder))))
    }

    fn fill(&self, put: impl FnMut(&mut String, &super::Placeholder)) -> Result<Url, RenderError> {
        let most = limits::URL_BYTES_MAX;
        let tail = self.tail.render(("URL", most), put)?;
        let path = tail.split(['?', '#']).next().unwrap_or_default();
        if path.split('/').any(is_dots) {
            return Err(RenderError::DotSegment);
        }
        let whole = format!("{}{tail}", self.origin.as_str().trim_end_matches('/'));
        let mut url = Url::parse(&whole).map_err(|_| RenderError::Elsewhere)?;
        url.set_fragment(None);
        if url.as_str().len() > most {
            return Err(RenderError::TooLong { what: "URL", max: most });
        }
        // It cannot be otherwise by what stands above; this is the promise itself.
        if url.origin() != self.origin.origin() || !url.username().is_empty() || url.password().is_some() {
            return Err(RenderError::Elsewhere);
        }
        Ok(url)
    }
}

/// Whether a segment means the directory itself or the one above, in any spelling.
fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}

/// Writes everything but unreserved characters (RFC 3986, section 2.3) as `%XX`.
pub(super) fn percent_encode(whole: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            whole.push(char::from(byte));
        } else {
            whole.push('%');
            for digit in [byte >> 4, byte & 15] {
                whole.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
}
