//! The pieces that pages are made of: fields, times, pills, buttons that copy. `/settings/design` shows them all.
//!
//! Each is HTML by itself ([`Html`], [`Field`]), escaped where it is made, so that no template marks anything as safe.
#![cfg_attr(
    not(debug_assertions),
    allow(dead_code, reason = "the page of the design shows pieces that no other page has yet")
)]

pub(super) mod chart;

use std::borrow::Cow;
use std::fmt;

use askama::Template;
use askama::filters::HtmlSafe;
use postrider_core::time::UnixMs;

/// HTML that is finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl fmt::Display for Html {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Html {}

/// Text as it may stand in an element or a quoted attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

pub(super) fn hidden(name: &str, value: &str) -> Html {
    Html(format!(r#"<input type="hidden" name="{}" value="{}">"#, escaped(name), escaped(value)))
}

/// A moment: in UTC without a script, in the reader's zone with one, exactly on hover.
pub(super) fn time(at: UnixMs) -> Html {
    let Ok(stamp) = jiff::Timestamp::from_millisecond(at.0) else { return Html(String::new()) };
    let text = stamp.strftime("%-d %b %Y, %H:%M UTC");
    let exact = stamp.strftime("%Y-%m-%d %H:%M:%S%.3f UTC");
    let machine = stamp.strftime("%Y-%m-%dT%H:%M:%S%.3fZ");
    Html(format!(r#"<time datetime="{machine}" title="{exact}">{text}</time>"#))
}

/// The same, or what stands for never.
pub(super) fn maybe_time(at: Option<UnixMs>, never: &str) -> Html {
    at.map_or_else(|| Html(format!(r#"<span class="quiet">{}</span>"#, escaped(never))), time)
}

/// What a pill means, beside its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    Bad,
    Warning,
    Neutral,
    Busy,
}

impl Mood {
    fn class(self) -> &'static str {
        match self {
            Mood::Good => "good",
            Mood::Bad => "bad",
            Mood::Warning => "warning",
            Mood::Neutral => "neutral",
            Mood::Busy => "busy",
        }
    }
}

/// How something stands. Its text says it all: the colour and the dot only help.
pub(super) fn pill(mood: Mood, text: &str) -> Html {
    Html(format!(r#"<span class="pill {}">{}</span>"#, mood.class(), escaped(text)))
}

/// A name among others, such as an event type.
pub(super) fn badge(text: &str) -> Html {
    Html(format!(r#"<span class="badge" dir="auto">{}</span>"#, escaped(text)))
}

/// The beginning of a text that may be long.
pub(super) fn short(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Text that somebody else may have written.
pub(super) fn text(text: &str) -> Html {
    Html(format!(r#"<span dir="auto">{}</span>"#, escaped(text)))
}

/// The same, set as code.
pub(super) fn code_text(text: &str) -> Html {
    Html(format!(r#"<code dir="auto">{}</code>"#, escaped(text)))
}

/// What stands for nothing in particular.
pub(super) fn quiet(text: &str) -> Html {
    Html(format!(r#"<span class="quiet">{}</span>"#, escaped(text)))
}

/// Text with a button that copies it (with a script; without one it can be selected).
pub(super) fn copyable(text: &str, what: &str) -> Html {
    Html(format!(
        r#"<span class="copyable"><code>{text}</code><button type="button" class="copy" aria-label="Copy {what}" hidden>Copy</button></span>"#,
        text = escaped(text),
        what = escaped(what),
    ))
}

/// Some lines of code with a button that copies them.
pub(super) fn code(text: &str, label: &str) -> Html {
    Html(format!(
        r#"<figure class="code"><figcaption>{label}<button type="button" class="copy" aria-label="Copy {label}" hidden>Copy</button></figcaption><pre tabindex="0"><code>{text}</code></pre></figure>"#,
        text = escaped(text),
        label = escaped(label),
    ))
}

/// A number with a mark between thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One of several values to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub value: String,
    pub label: String,
    pub hint: String,
    pub chosen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Line(&'static str),
    Text,
    Select,
    Radios,
    Checkbox,
}

/// A field of a form with its label, its hint and what is wrong with it.
#[derive(Clone, Debug, Template)]
#[template(path = "kit/field.html")]
pub(super) struct Field {
    name: Cow<'static, str>,
    label: String,
    kind: Kind,
    value: String,
    hint: String,
    error: Option<String>,
    choices: Vec<Choice>,
    autocomplete: &'static str,
    placeholder: String,
    required: bool,
    focused: bool,
    disabled: bool,
    checked: bool,
    longest: usize,
    /// Of a text.
    rows: usize,
    is_code: bool,
}

impl HtmlSafe for Field {}

impl Field {
    fn new(name: impl Into<Cow<'static, str>>, label: &str, kind: Kind) -> Field {
        Field {
            name: name.into(),
            label: label.to_owned(),
            kind,
            value: String::new(),
            hint: String::new(),
            error: None,
            choices: Vec::new(),
            autocomplete: "off",
            placeholder: String::new(),
            required: false,
            focused: false,
            disabled: false,
            checked: false,
            longest: 0,
            rows: 4,
            is_code: false,
        }
    }

    pub(super) fn line(name: impl Into<Cow<'static, str>>, label: &str) -> Field {
        Field::new(name, label, Kind::Line("text"))
    }

    pub(super) fn email(name: &'static str, label: &str) -> Field {
        Field { autocomplete: "username", ..Field::new(name, label, Kind::Line("email")) }
    }

    pub(super) fn url(name: &'static str, label: &str) -> Field {
        Field::new(name, label, Kind::Line("url"))
    }

    pub(super) fn date(name: &'static str, label: &str) -> Field {
        Field::new(name, label, Kind::Line("date"))
    }

    /// A time of UTC: without a script a browser does not tell its zone.
    pub(super) fn moment(name: &'static str, label: &str) -> Field {
        Field::new(name, label, Kind::Line("datetime-local"))
    }

    /// Never filled in by us.
    pub(super) fn password(name: &'static str, label: &str, autocomplete: &'static str) -> Field {
        Field { autocomplete, ..Field::new(name, label, Kind::Line("password")) }
    }

    pub(super) fn text(name: impl Into<Cow<'static, str>>, label: &str) -> Field {
        Field::new(name, label, Kind::Text)
    }

    pub(super) fn select(name: &'static str, label: &str, choices: Vec<Choice>) -> Field {
        Field { choices, ..Field::new(name, label, Kind::Select) }
    }

    pub(super) fn radios(name: &'static str, label: &str, choices: Vec<Choice>) -> Field {
        Field { choices, ..Field::new(name, label, Kind::Radios) }
    }

    pub(super) fn checkbox(name: impl Into<Cow<'static, str>>, label: &str, checked: bool) -> Field {
        Field { checked, ..Field::new(name, label, Kind::Checkbox) }
    }

    pub(super) fn value(mut self, value: impl Into<String>) -> Field {
        self.value = value.into();
        // Browsers show nothing else there, and complain.
        if self.kind == Kind::Line("date") && self.value.parse::<jiff::civil::Date>().is_err() {
            self.value.clear();
        }
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Field {
        self.hint = hint.into();
        self
    }

    pub(super) fn error(mut self, error: Option<&str>) -> Field {
        self.error = error.map(str::to_owned);
        self
    }

    pub(super) fn placeholder(mut self, placeholder: &str) -> Field {
        placeholder.clone_into(&mut self.placeholder);
        self
    }

    pub(super) fn longest(mut self, chars: usize) -> Field {
        self.longest = chars;
        self
    }

    /// A text that is code, so many lines high.
    pub(super) fn code(mut self, rows: usize) -> Field {
        (self.rows, self.is_code) = (rows, true);
        self
    }

    pub(super) fn required(mut self) -> Field {
        self.required = true;
        self
    }

    pub(super) fn focused(mut self) -> Field {
        self.focused = true;
        self
    }

    pub(super) fn disabled(mut self) -> Field {
        self.disabled = true;
        self
    }

    pub(super) fn autocomplete(mut self, autocomplete: &'static str) -> Field {
        self.autocomplete = autocomplete;
        self
    }

    fn line_type(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Line(kind) => Some(kind),
            _ => None,
        }
    }

    fn is(&self, kind: &str) -> bool {
        matches!(
            (self.kind, kind),
            (Kind::Text, "text") | (Kind::Select, "select") | (Kind::Radios, "radios") | (Kind::Checkbox, "checkbox")
        )
    }

    /// The ids of what describes it.
    fn described_by(&self) -> String {
        let hint = (!self.hint.is_empty()).then(|| format!("{}-hint", self.name));
        let error = self.error.as_ref().map(|_| format!("{}-error", self.name));
        hint.into_iter().chain(error).collect::<Vec<_>>().join(" ")
    }
}

/// The way to the next page of a list, and back to its first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pager {
    /// Address of the next page.
    pub next: Option<String>,
    /// Address of the first page, unless this is it.
    pub first: Option<String>,
}

impl Pager {
    /// Of a list at `path` whose other parameters are `query`; `cursor` is this page's, `next` the next one's.
    pub(super) fn of(path: &str, query: &[(&str, &str)], cursor: Option<&str>, next: Option<i64>) -> Pager {
        let kept: Vec<_> = query.iter().filter(|(_, value)| !value.is_empty()).copied().collect();
        let address = |cursor: Option<&str>| {
            let mut pairs = kept.clone();
            pairs.extend(cursor.map(|cursor| ("cursor", cursor)));
            let query = serde_urlencoded::to_string(pairs).unwrap_or_default();
            if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
        };
        Pager { next: next.map(|next| address(Some(&next.to_string()))), first: cursor.map(|_| address(None)) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\"><script>alert('x')</script>&\u{202e}";

    #[test]
    fn nothing_breaks_out_of_a_piece() {
        let choice = Choice { value: HOSTILE.into(), label: HOSTILE.into(), hint: HOSTILE.into(), chosen: true };
        let choices = vec![choice];
        let field = |field: Field| field.value(HOSTILE).hint(HOSTILE).error(Some(HOSTILE)).placeholder(HOSTILE);
        let pieces = [
            hidden(HOSTILE, HOSTILE).to_string(),
            pill(Mood::Good, HOSTILE).to_string(),
            badge(HOSTILE).to_string(),
            text(HOSTILE).to_string(),
            code_text(HOSTILE).to_string(),
            quiet(HOSTILE).to_string(),
            copyable(HOSTILE, HOSTILE).to_string(),
            code(HOSTILE, HOSTILE).to_string(),
            maybe_time(None, HOSTILE).to_string(),
            field(Field::line("a", HOSTILE)).render().unwrap(),
            field(Field::text("a", HOSTILE)).render().unwrap(),
            field(Field::checkbox("a", HOSTILE, true)).render().unwrap(),
            field(Field::select("a", HOSTILE, choices.clone())).render().unwrap(),
            field(Field::radios("a", HOSTILE, choices)).render().unwrap(),
        ];
        for piece in pieces {
            assert!(!piece.contains("<script") && !piece.contains(HOSTILE), "{piece}");
        }
    }

    #[test]
    fn a_moment_is_readable_and_exact() {
        let shown = time(UnixMs(1_772_618_400_123)).to_string();
        assert_eq!(
            shown,
            r#"<time datetime="2026-03-04T10:00:00.123Z" title="2026-03-04 10:00:00.123 UTC">4 Mar 2026, 10:00 UTC</time>"#
        );
    }

    #[test]
    fn a_number_is_grouped_by_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_field_says_what_is_wrong_where_it_is() {
        let shown = Field::email("email", "E-mail").value("x").hint("Yours").error(Some("No.")).render().unwrap();
        assert!(shown.contains(r#"aria-invalid="true""#), "{shown}");
        assert!(shown.contains(r#"aria-describedby="email-hint email-error""#), "{shown}");
        assert!(shown.contains(r#"id="email-error""#), "{shown}");
    }

    #[test]
    fn a_pager_keeps_the_filters() {
        let pager = Pager::of("/x", &[("actor", "a b"), ("action", "")], Some("7"), Some(3));
        assert_eq!(pager.next.unwrap(), "/x?actor=a+b&cursor=3");
        assert_eq!(pager.first.unwrap(), "/x?actor=a+b");
        assert_eq!(Pager::of("/x", &[], None, None), Pager::default());
    }
}
