//! A statement put together from parts: common table expressions and the values that they bind.

use tokio_postgres::types::{ToSql, Type};

/// Parts that run as one statement, and so in one round trip.
#[derive(Default)]
pub(super) struct Statement<'a> {
    tables: Vec<(&'static str, String)>,
    parameters: Vec<(&'a (dyn ToSql + Sync), Type)>,
}

impl<'a> Statement<'a> {
    /// The placeholder of a value.
    pub(super) fn bind(&mut self, value: &'a (dyn ToSql + Sync), r#type: Type) -> String {
        self.parameters.push((value, r#type.clone()));
        format!(
            "${}::{}",
            self.parameters.len(),
            r#type.name().strip_prefix('_').map_or_else(|| r#type.name().to_owned(), |element| format!("{element}[]"),)
        )
    }

    /// Adds `name AS (sql)`; it may use those added before.
    pub(super) fn with(&mut self, name: &'static str, sql: String) {
        self.tables.push((name, sql));
    }

    /// The whole text, with `last` after the common table expressions.
    pub(super) fn sql(&self, last: &str) -> String {
        let tables: Vec<String> = self.tables.iter().map(|(name, sql)| format!("{name} AS ({sql})")).collect();
        if tables.is_empty() { last.to_owned() } else { format!("WITH {} {last}", tables.join(", ")) }
    }

    pub(super) fn parameters(&self) -> &[(&'a (dyn ToSql + Sync), Type)] {
        &self.parameters
    }
}
