//! What a gateway key may do.
//!
//! A right is `<resource>.<action>`. A resource is a table as the operation names it, with its schema or without: a right to
//! `orders` is none to `sales.orders`, nor to `public.orders`, since which schema a bare name means is the database's to
//! say. What is not granted is refused.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// What an operation does to the tables that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need<'a> {
    /// Fetch.
    Read(&'a str),
    /// Insert or update.
    Write(&'a str),
    Delete(&'a str),
    /// SQL of the caller's own, which is about any table.
    Query,
}

/// The resource that stands for every table in a right, and that queries are of.
const GATEWAY: &str = "gateway";

impl<'a> Need<'a> {
    fn resource(self) -> &'a str {
        match self {
            Need::Read(table) | Need::Write(table) | Need::Delete(table) => table,
            Need::Query => GATEWAY,
        }
    }

    fn action(self) -> &'static str {
        match self {
            Need::Read(_) => "read",
            Need::Write(_) => "write",
            Need::Delete(_) => "delete",
            Need::Query => "query",
        }
    }
}

/// As it is spelled in a right.
impl fmt::Display for Need<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.resource(), self.action())
    }
}

/// One right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Right(String);

/// The text is no right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRight(pub String);

impl Right {
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Right, InvalidRight> {
        let text = text.trim();
        let wrong = |what: String| Err(InvalidRight(what));
        if text.len() > limits::GATEWAY_RIGHT_BYTES_MAX {
            return wrong(format!("a right is longer than {} bytes", limits::GATEWAY_RIGHT_BYTES_MAX));
        }
        if text.chars().any(char::is_control) {
            return wrong("a right must not have control characters".to_owned());
        }
        if text == "*" {
            return Ok(Right(text.to_owned()));
        }
        let (resource, action) = text.rsplit_once('.').unwrap_or((text, ""));
        let is_action = action == "*" || !action.is_empty() && action.bytes().all(is_of_action);
        if resource.is_empty() || !is_action {
            return wrong(format!("`{text}` is no right: it must be `*` or `<resource>.<action>`"));
        }
        if resource != "*" && resource.contains('*') || resource.split('.').any(str::is_empty) {
            return wrong(format!("`{text}` is no right: `*` stands for a whole resource, and no name is empty"));
        }
        Ok(Right(text.to_owned()))
    }

    /// Whether this right alone is enough.
    pub fn grants(&self, need: Need<'_>) -> bool {
        let Some((resource, action)) = self.0.rsplit_once('.') else { return self.0 == "*" };
        let of_resource = resource == "*" || resource == GATEWAY || resource == need.resource();
        of_resource && (action == "*" || action == need.action())
    }
}

fn is_of_action(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Right {
    type Error = InvalidRight;
    fn try_from(text: String) -> Result<Right, InvalidRight> {
        Right::parse(&text)
    }
}

impl From<Right> for String {
    fn from(right: Right) -> String {
        right.0
    }
}

/// All that a key may do; nothing, if there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rights(pub Vec<Right>);

impl Rights {
    /// Checks every right and removes repeats.
    ///
    /// # Errors
    /// The first that is none, or too many of them.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Rights, InvalidRight> {
        let mut rights: Vec<Right> = Vec::new();
        for text in texts {
            let right = Right::parse(text.as_ref())?;
            if rights.contains(&right) {
                continue;
            }
            if rights.len() == limits::GATEWAY_RIGHTS_MAX {
                return Err(InvalidRight(format!("a key has at most {} rights", limits::GATEWAY_RIGHTS_MAX)));
            }
            rights.push(right);
        }
        Ok(Rights(rights))
    }

    pub fn grant(&self, need: Need<'_>) -> bool {
        self.0.iter().any(|right| right.grants(need))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_grants_what_it_names_and_nothing_else() {
        let (read, write, delete) = (Need::Read("orders"), Need::Write("orders"), Need::Delete("orders"));
        let (query, other) = (Need::Query, Need::Read("users"));
        let in_schema = Need::Read("sales.orders");
        for (right, granted) in [
            ("*", [true, true, true, true, true, true]),
            ("*.*", [true, true, true, true, true, true]),
            ("gateway.*", [true, true, true, true, true, true]),
            ("orders.*", [true, true, true, false, false, false]),
            ("orders.read", [true, false, false, false, false, false]),
            ("orders.write", [false, true, false, false, false, false]),
            ("orders.delete", [false, false, true, false, false, false]),
            ("orders.query", [false, false, false, false, false, false]),
            ("Orders.read", [false, false, false, false, false, false]),
            ("*.read", [true, false, false, false, true, true]),
            ("*.query", [false, false, false, true, false, false]),
            ("gateway.read", [true, false, false, false, true, true]),
            ("gateway.query", [false, false, false, true, false, false]),
            ("gateway.write", [false, true, false, false, false, false]),
            ("sales.orders.read", [false, false, false, false, false, true]),
            ("sales.orders.*", [false, false, false, false, false, true]),
            ("sales.*", [false, false, false, false, false, false]),
            ("orders.raed", [false, false, false, false, false, false]),
        ] {
            let parsed = Right::parse(right).unwrap();
            let got = [read, write, delete, query, other, in_schema].map(|need| parsed.grants(need));
            assert_eq!(got, granted, "{right}");
        }
    }

    #[test]
    fn a_tables_name_is_no_pattern() {
        let right = Right::parse("orders.read").unwrap();
        for table in ["*", "gateway", "", "orders.read", "orders.*", "*.orders", "orders "] {
            assert!(!right.grants(Need::Read(table)), "{table}");
        }
        // A table that is called as the gateway is one more table.
        assert!(!Right::parse("orders.*").unwrap().grants(Need::Query));
    }

    #[test]
    fn what_is_no_right_is_refused() {
        let long = |n: usize| format!("{}.read", "t".repeat(n - 5));
        for good in ["*", "a.read", " a.read ", "a.b.c.*", "täble.read", &long(limits::GATEWAY_RIGHT_BYTES_MAX)] {
            assert!(Right::parse(good).is_ok(), "{good}");
        }
        let too_long = long(limits::GATEWAY_RIGHT_BYTES_MAX + 1);
        for bad in [
            "", " ", "a", ".", ".read", "a.", "a..read", "a*.read", "*a.read", "**", "a.re*", "a.r-d", "a\n.read",
            "a.b .", &too_long,
        ] {
            assert!(Right::parse(bad).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<Right>(serde_json::json!(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rights_are_counted_once_each_and_bounded() {
        let many = |n: usize| (0..n).map(|n| format!("t{n}.read")).collect::<Vec<_>>();
        assert_eq!(Rights::parse(&many(limits::GATEWAY_RIGHTS_MAX)).unwrap().0.len(), limits::GATEWAY_RIGHTS_MAX);
        assert!(Rights::parse(&many(limits::GATEWAY_RIGHTS_MAX + 1)).is_err());
        assert_eq!(Rights::parse(&["a.read"; 1000]).unwrap().0.len(), 1);
        let rights = Rights::parse(&["a.read", "b.write"]).unwrap();
        assert!(rights.grant(Need::Read("a")) && rights.grant(Need::Write("b")) && !rights.grant(Need::Read("b")));
        assert!(!Rights::default().grant(Need::Read("a")));
        assert_eq!(serde_json::to_string(&rights).unwrap(), r#"["a.read","b.write"]"#);
        assert_eq!(Need::Read("public.a").to_string(), "public.a.read");
        assert_eq!(Need::Query.to_string(), "gateway.query");
    }
}
