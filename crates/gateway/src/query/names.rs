//! Statements with parameters by name, `:sku`, as contracts of public routes have them.

use std::collections::BTreeSet;

use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::tokenizer::{Token, Tokenizer};

use super::Offsets;

/// A statement whose names have become `$1`, `$2`…; a name used twice is one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub sql: String,
    /// Which name each number stands for.
    pub names: Vec<String>,
}

impl Named {
    /// Finds the names by their tokens: what stands in a literal, a comment or a cast is none.
    ///
    /// # Errors
    /// A sentence: it is no SQL, has numbered parameters, or a name that is not among `declared`.
    pub fn parse(sql: &str, declared: &BTreeSet<String>) -> Result<Named, String> {
        let dialect = PostgreSqlDialect {};
        let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location();
        let tokens = tokens.map_err(|error| format!("is no SQL: {error}"))?;
        let offsets = Offsets::new(sql);
        let (mut written, mut names, mut copied) = (String::new(), Vec::<String>::new(), 0);
        for (at, token) in tokens.iter().enumerate() {
            if matches!(token.token, Token::Placeholder(_)) {
                return Err("takes parameters by name, such as :sku".to_owned());
            }
            let Some(Token::Word(word)) = tokens.get(at + 1).map(|next| &next.token) else { continue };
            if token.token != Token::Colon || word.quote_style.is_some() {
                continue;
            }
            let next = &tokens[at + 1];
            if next.span.start != token.span.end {
                continue;
            }
            if !declared.contains(&word.value) {
                return Err(format!("uses the parameter :{} which params does not declare", word.value));
            }
            let number = names.iter().position(|name| *name == word.value).unwrap_or_else(|| {
                names.push(word.value.clone());
                names.len() - 1
            });
            let (start, end) = (offsets.of(sql, token.span.start), offsets.of(sql, next.span.end));
            written.push_str(sql.get(copied..start).unwrap_or_default());
            written.push_str(&format!("${}", number + 1));
            copied = end;
        }
        written.push_str(sql.get(copied..).unwrap_or_default());
        match declared.iter().find(|name| !names.contains(name)) {
            Some(unused) => Err(format!("does not use the parameter {unused}")),
            None => Ok(Named { sql: written, names }),
        }
    }
}
