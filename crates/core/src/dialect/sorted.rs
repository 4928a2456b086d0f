//! JSON written compactly with sorted keys, without touching a number or a string.
//!
//! A parsed tree of values would round numbers beyond 64 bits and rewrite `1.0` or `1e3`, so this one keeps slices of
//! the text. The text is taken to be JSON (it was checked when it was accepted); from any other text something harmless
//! comes out, without a panic.

use std::borrow::Cow;

use crate::limits::JSON_DEPTH_MAX;

/// A JSON value over the text it was read from.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// A string, number, `true`, `false` or `null` as it is spelled; also whatever lies too deep to be sorted.
    Scalar(&'a str),
    Array(Vec<Node<'a>>),
    /// Names as they are spelled, sorted by what they mean; of equal names the later one stands later.
    Object(Vec<(&'a str, Node<'a>)>),
}

impl<'a> Node<'a> {
    pub(super) fn parse(text: &'a str) -> Node<'a> {
        Reader { text, at: 0 }.value(0)
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Scalar(text) => out.extend_from_slice(text.as_bytes()),
            Node::Array(items) => {
                out.push(b'[');
                for (n, item) in items.iter().enumerate() {
                    out.extend_from_slice(if n == 0 { b"" } else { b"," });
                    item.write(out);
                }
                out.push(b']');
            }
            Node::Object(members) => {
                out.push(b'{');
                for (n, (name, value)) in members.iter().enumerate() {
                    out.extend_from_slice(if n == 0 { b"" } else { b"," });
                    out.extend_from_slice(name.as_bytes());
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The value of the (last) member called `name`.
    pub(super) fn member(&self, name: &str) -> Option<&Node<'a>> {
        let Node::Object(members) = self else { return None };
        members.iter().rev().find(|(spelled, _)| meaning(spelled) == name).map(|(_, value)| value)
    }

    pub(super) fn scalar(&self) -> Option<&'a str> {
        match self {
            Node::Scalar(text) => Some(text),
            Node::Array(_) | Node::Object(_) => None,
        }
    }
}

/// A name without its quotes and escapes.
fn meaning(spelled: &str) -> Cow<'_, str> {
    let inner = spelled.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(spelled);
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str(spelled).map_or(Cow::Borrowed(inner), Cow::Owned)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Node<'a> {
        match self.peek() {
            Some(b'{') if depth < JSON_DEPTH_MAX => self.object(depth),
            Some(b'[') if depth < JSON_DEPTH_MAX => self.array(depth),
            Some(b'{' | b'[') => self.whole_container(),
            Some(b'"') => Node::Scalar(self.string()),
            _ => Node::Scalar(self.word()),
        }
    }

    fn object(&mut self, depth: usize) -> Node<'a> {
        let mut members = Vec::new();
        self.at += 1;
        while let Some(next) = self.peek() {
            match next {
                b'}' => break,
                b'"' => {
                    let name = self.string();
                    if self.peek() == Some(b':') {
                        self.at += 1;
                    }
                    members.push((name, self.value(depth + 1)));
                }
                _ => self.at += 1,
            }
        }
        self.at += 1;
        if !members.is_sorted_by(|(a, _), (b, _)| meaning(a) <= meaning(b)) {
            members.sort_by_cached_key(|(name, _)| meaning(name).into_owned());
        }
        Node::Object(members)
    }

    fn array(&mut self, depth: usize) -> Node<'a> {
        let mut items = Vec::new();
        self.at += 1;
        while let Some(next) = self.peek() {
            match next {
                b']' => break,
                b',' | b'}' | b':' => self.at += 1,
                _ => items.push(self.value(depth + 1)),
            }
        }
        self.at += 1;
        Node::Array(items)
    }

    /// A container that lies too deep: as it is spelled, to its closing bracket.
    fn whole_container(&mut self) -> Node<'a> {
        let start = self.at;
        let mut open = 0_usize;
        while let Some(next) = self.peek() {
            match next {
                b'"' => {
                    self.string();
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open = open.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                break;
            }
        }
        Node::Scalar(self.since(start))
    }

    /// The string that starts here, quotes included.
    fn string(&mut self) -> &'a str {
        let start = self.at;
        let bytes = self.text.as_bytes();
        self.at += 1;
        while let Some(byte) = bytes.get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                break;
            }
        }
        self.since(start)
    }

    /// The number or literal that starts here.
    fn word(&mut self) -> &'a str {
        let start = self.at;
        let rest = &self.text.as_bytes()[start.min(self.text.len())..];
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\t' | b'\n' | b'\r');
        self.at += rest.iter().position(ends).unwrap_or(rest.len());
        self.since(start)
    }

    fn since(&mut self, start: usize) -> &'a str {
        self.at = self.at.min(self.text.len());
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while matches!(bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }
}
