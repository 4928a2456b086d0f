//! Payloads as people read them: JSON laid out without changing a character of its values, and bytes that are no text.
//!
//! What is shown is bounded, whatever came in.

/// Of one payload on a page, in bytes as HTML has them: a quote counts as `&quot;`.
const SHOWN_HTML_MAX: usize = 40 * 1024;
/// Of one that is no text.
const SHOWN_BYTES: usize = 512;
const PER_LINE: usize = 16;
/// Deeper levels are not moved further in.
const INDENTED_MAX: usize = 16;

/// A text, and whether it is all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub text: String,
    pub is_whole: bool,
}

/// JSON laid out; text as it is; anything else as bytes.
pub(super) fn shown(bytes: &[u8]) -> Shown {
    match std::str::from_utf8(bytes) {
        Ok(text) if serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() => laid_out(text),
        Ok(text) if !text.contains('\0') => plain(text),
        _ => dumped(bytes),
    }
}

/// What a character takes in a page.
fn weight(char: char) -> usize {
    match char {
        '"' => 6,
        '&' | '\'' => 5,
        '<' | '>' => 4,
        other => other.len_utf8(),
    }
}

fn plain(text: &str) -> Shown {
    let mut weighs = 0;
    let fits = |char: &char| {
        weighs += weight(*char);
        weighs <= SHOWN_HTML_MAX
    };
    let chars = text.chars().take_while(fits).count();
    cut(text, chars)
}

pub(super) fn cut(text: &str, chars: usize) -> Shown {
    match text.char_indices().nth(chars) {
        Some((at, _)) => Shown { text: format!("{}…", &text[..at]), is_whole: false },
        None => Shown { text: text.to_owned(), is_whole: true },
    }
}

/// `json` is one JSON value. Its strings and numbers stay as they were written, and its keys in their order.
fn laid_out(json: &str) -> Shown {
    let mut layout = Layout::default();
    let mut chars = json.chars().peekable();
    while let Some(char) = chars.next() {
        if layout.written >= SHOWN_HTML_MAX {
            layout.text.push('…');
            return Shown { text: layout.text, is_whole: false };
        }
        if layout.in_string {
            layout.string(char);
            continue;
        }
        match char {
            '{' | '[' => {
                while chars.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                layout.put(char);
                match chars.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => layout.put(end),
                    None => layout.line(1),
                }
            }
            '}' | ']' => {
                layout.line(-1);
                layout.put(char);
            }
            ',' => {
                layout.put(',');
                layout.line(0);
            }
            ':' => {
                layout.put(':');
                layout.put(' ');
            }
            space if space.is_ascii_whitespace() => {}
            other => {
                layout.in_string = other == '"';
                layout.put(other);
            }
        }
    }
    Shown { text: layout.text, is_whole: true }
}

#[derive(Default)]
struct Layout {
    text: String,
    written: usize,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Layout {
    fn put(&mut self, char: char) {
        self.text.push(char);
        self.written += weight(char);
    }

    fn string(&mut self, char: char) {
        self.put(char);
        match (self.is_escaped, char) {
            (true, _) => self.is_escaped = false,
            (false, '\\') => self.is_escaped = true,
            (false, '"') => self.in_string = false,
            _ => {}
        }
    }

    fn line(&mut self, deeper: isize) {
        self.depth = self.depth.saturating_add_signed(deeper);
        self.put('\n');
        for _ in 0..2 * self.depth.min(INDENTED_MAX) {
            self.put(' ');
        }
    }
}

/// As a programmer's tool shows bytes: their place, their values, and what is a letter among them.
fn dumped(bytes: &[u8]) -> Shown {
    let mut text = String::new();
    for (line, part) in bytes.chunks(PER_LINE).take(SHOWN_BYTES / PER_LINE).enumerate() {
        let values: Vec<_> = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let letters: String =
            part.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
        text.push_str(&format!("{:08x}  {:<47}  {letters}\n", line * PER_LINE, values.join(" ")));
    }
    Shown { text, is_whole: bytes.len() <= SHOWN_BYTES }
}

/// A size as people say it.
pub(super) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_is_laid_out_and_stays_what_it_was() {
        let json = r#"{"b":1e400,"a":[ ],"c":{"d":"x,{\"y\"}: é","e":[1,null]},"f":{}}"#;
        let laid = shown(json.as_bytes());
        let expected = "{\n  \"b\": 1e400,\n  \"a\": [],\n  \"c\": {\n    \"d\": \"x,{\\\"y\\\"}: é\",\n    \"e\": [\n      1,\n      \
                        null\n    ]\n  },\n  \"f\": {}\n}";
        assert_eq!(laid, Shown { text: expected.to_owned(), is_whole: true });
    }

    #[test]
    fn what_is_no_text_is_shown_as_bytes() {
        let dump = shown(b"\x89PNG\r\n\xff\x00tail");
        assert_eq!(dump.text, "00000000  89 50 4e 47 0d 0a ff 00 74 61 69 6c              .PNG....tail\n");
        assert!(dump.is_whole);
        let long = shown(&[0xff; 4096]);
        assert_eq!((long.text.lines().count(), long.is_whole), (SHOWN_BYTES / PER_LINE, false));
        assert_eq!(shown(b"plain, not JSON").text, "plain, not JSON");
    }

    #[test]
    fn a_page_stays_small_whatever_came_in() {
        let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
        let long = [
            format!("\"{}\"", "x".repeat(1_000_000)),
            format!("[{}0]", "{\"a\":1},".repeat(100_000)),
            "not JSON: <\"&'>é".repeat(100_000),
        ];
        for text in long {
            let laid = shown(text.as_bytes());
            let html = crate::console::kit::escaped(&laid.text).len();
            assert!((SHOWN_HTML_MAX - 6..SHOWN_HTML_MAX + 64).contains(&html) && !laid.is_whole, "{html}");
        }
        assert!(shown(deep.as_bytes()).is_whole);
    }

    #[test]
    fn sizes_are_told_in_their_unit() {
        assert_eq!(
            [0, 1023, 1024, 1_048_575, 1_572_864].map(size),
            ["0 B", "1023 B", "1.0 KiB", "1024.0 KiB", "1.5 MiB"]
        );
    }

    proptest! {
        #[test]
        fn nothing_but_space_between_values_changes(text in "[a-z\"\\\\ {}\\[\\]:,é\u{202e}]{0,40}", number in any::<f64>()) {
            let value = serde_json::json!({ "text": text, "list": [number, { "deep": [text, {}, []] }] });
            let laid = shown(value.to_string().as_bytes());
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&laid.text).unwrap(), value);
        }
    }
}
