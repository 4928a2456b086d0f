//! Names of schemas, tables and columns.
//!
//! A name that came from outside becomes an [`Identifier`] or is refused. It may hold letters and digits of any script,
//! `_`, `$`, `-` and single blanks between them: what real tables are called, and nothing that could end a quoted
//! identifier, should anything ever forget to double its quotes.

use std::fmt;

use crate::limits::IDENTIFIER_BYTES_MAX;
use crate::{Code, Fault};

/// A checked name. Compared exactly: quoted identifiers keep their case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identifier(String);

impl Identifier {
    /// # Errors
    /// Says what is wrong with it; the caller adds code and field.
    pub fn new(name: &str) -> Result<Identifier, &'static str> {
        if name.is_empty() {
            return Err("must not be empty");
        }
        if name.len() > IDENTIFIER_BYTES_MAX {
            return Err("is longer than 63 bytes");
        }
        let inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-' | ' ');
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let closes = |c: Option<char>| c.is_some_and(|c| c != ' ');
        if !name.chars().all(inner) || !edge(name.chars().next()) || !closes(name.chars().next_back()) {
            return Err("may hold letters, digits, `_`, `$`, `-` and inner blanks only");
        }
        if name.contains("  ") || name.contains("--") {
            return Err("may not repeat blanks or dashes");
        }
        Ok(Identifier(name.to_owned()))
    }

    /// A schema's name from a request: plain ASCII, as the contract has it.
    ///
    /// # Errors
    /// As [`Identifier::new`].
    pub fn schema(name: &str) -> Result<Identifier, &'static str> {
        let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err("must be letters, digits and `_`, and not begin with a digit");
        }
        Identifier::new(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// For SQL that is not built by the query builder.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0.replace('"', "\"\""))
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table, with its schema where one was named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    pub schema: Option<Identifier>,
    pub name: Identifier,
}

impl Table {
    /// `orders` or `sales.orders`; with a schema of its own the name may hold no dot.
    ///
    /// # Errors
    /// `invalid_schema_table_selector` or `invalid_table_name`, with the field.
    pub fn parse(name: &str, schema: Option<&str>) -> Result<Table, Fault> {
        let selector = |message: String| Fault::new(Code::InvalidSchemaTableSelector, message);
        let bad_name = |why| Fault::new(Code::InvalidTableName, format!("The table name {why}.")).at("table_name");
        let of_schema = |schema: &str| {
            let wrong = |why| selector(format!("The schema name {why}.")).at("schema_name");
            Identifier::schema(schema).map_err(wrong)
        };
        if let Some(schema) = schema {
            let schema = of_schema(schema)?;
            if name.contains('.') {
                let message = "With schema_name, table_name must not name a schema of its own.".to_owned();
                return Err(selector(message).at("table_name"));
            }
            return Ok(Table { schema: Some(schema), name: Identifier::new(name).map_err(bad_name)? });
        }
        match name.split_once('.') {
            Some((schema, name)) => {
                let schema = of_schema(schema).map_err(|fault| fault.at("table_name"))?;
                Ok(Table { schema: Some(schema), name: Identifier::new(name).map_err(bad_name)? })
            }
            None => Ok(Table { schema: None, name: Identifier::new(name).map_err(bad_name)? }),
        }
    }

    /// For SQL that is not built by the query builder.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", schema.quoted(), self.name.quoted()),
            None => self.name.quoted(),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_of_real_tables_pass_and_nothing_else() {
        let longest = "a".repeat(IDENTIFIER_BYTES_MAX);
        for name in ["id", "_x", "2024_sales", "Order Items", "order-items", "größe", "注文", "a$b", longest.as_str()]
        {
            assert_eq!(Identifier::new(name).unwrap().as_str(), name);
        }
        let long = format!("{longest}a");
        let hostile =
            ["", " ", " a", "a ", "a  b", "a\"b", "a'b", "a;b", "a--b", "a\0b", "a\nb", "a(b)", "*", "a.b", "-a"];
        for name in hostile.into_iter().chain([long.as_str(), "a\u{202e}b", "a\u{a0}b", "a\\b", "a/*b"]) {
            assert!(Identifier::new(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_schema_comes_beside_the_table_or_before_it_and_never_twice() {
        let table = Table::parse("sales.orders", None).unwrap();
        assert_eq!(table, Table::parse("orders", Some("sales")).unwrap());
        assert_eq!(table.quoted(), "\"sales\".\"orders\"");
        let code = |name, schema| Table::parse(name, schema).unwrap_err().code;
        assert_eq!(code("sales.orders", Some("sales")), Code::InvalidSchemaTableSelector);
        assert_eq!(code("orders", Some("sa-les")), Code::InvalidSchemaTableSelector);
        assert_eq!(code("orders", Some("")), Code::InvalidSchemaTableSelector);
        assert_eq!(code("a.b.c", None), Code::InvalidTableName);
        assert_eq!(code(".orders", None), Code::InvalidSchemaTableSelector);
    }
}
