//! A statement put together from parts: common table expressions and the values that they bind.

use tokio_postgres::types::{ToSql, Type};

use super::connection::Bound;

/// Parts that run as one statement, and so in one round trip.
#[derive(Default)]
pub(super) struct Statement<'a> {
    tables: Vec<(&'static str, String)>,
    whole: Vec<&'static str>,
    parameters: Vec<Bound<'a>>,
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

    /// The same, worked out once and as it stands.
    pub(super) fn with_whole(&mut self, name: &'static str, sql: String) {
        self.whole.push(name);
        self.with(name, sql);
    }

    /// The whole text, with `last` after the common table expressions.
    pub(super) fn sql(&self, last: &str) -> String {
        let how = |name| if self.whole.contains(name) { "AS MATERIALIZED" } else { "AS" };
        let tables: Vec<String> =
            self.tables.iter().map(|(name, sql)| format!("{name} {} ({sql})", how(name))).collect();
        if tables.is_empty() { last.to_owned() } else { format!("WITH {} {last}", tables.join(", ")) }
    }

    pub(super) fn parameters(&self) -> &[Bound<'a>] {
        &self.parameters
    }
}
