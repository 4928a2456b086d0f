//! Values on their way, the same whether read from SQLite or from PostgreSQL, and what a row of them hashes to.

use anyhow::{Context as _, bail};
use ring::digest::{SHA256, digest};
use rusqlite::types::ValueRef;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::store::Result;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 16 bytes; none in the source stand for all zeros.
    Id,
    Int,
    /// An unsigned 32-bit integer, kept as its signed twin.
    Twin,
    Real,
    Bool,
    Text,
    /// `jsonb` here, text in the source.
    Json,
    Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Id(Uuid),
    Int(i64),
    Real(f64),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
}

pub(super) type Line = Vec<Value>;

fn text(bytes: &[u8]) -> anyhow::Result<String> {
    Ok(std::str::from_utf8(bytes).context("text that is not UTF-8")?.replace('\0', "\u{fffd}"))
}

/// JSON in the one form that both sides are compared in.
fn json(text: &str) -> anyhow::Result<String> {
    let value: serde_json::Value = serde_json::from_str(text).context("stored JSON is damaged")?;
    Ok(value.to_string())
}

impl Value {
    pub(super) fn of_source(kind: Kind, value: ValueRef<'_>) -> Result<Value> {
        Ok(match (kind, value) {
            (_, ValueRef::Null) => Value::Null,
            (Kind::Id, ValueRef::Blob([])) => Value::Id(Uuid::nil()),
            (Kind::Id, ValueRef::Blob(bytes)) => Value::Id(Uuid::from_slice(bytes).context("an id")?),
            (Kind::Int, ValueRef::Integer(number)) => Value::Int(number),
            (Kind::Twin, ValueRef::Integer(number)) => {
                let number = u32::try_from(number).context("a number beyond 32 bits")?;
                Value::Int(i64::from(number.cast_signed()))
            }
            (Kind::Real, ValueRef::Real(number)) => Value::Real(number),
            (Kind::Real, ValueRef::Integer(number)) => Value::Real(number as f64),
            (Kind::Bool, ValueRef::Integer(number)) => Value::Bool(number != 0),
            (Kind::Text, ValueRef::Text(bytes)) => Value::Text(text(bytes)?),
            (Kind::Json, ValueRef::Text(bytes)) => Value::Text(json(&text(bytes)?)?),
            (Kind::Bytes, ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => Value::Bytes(bytes.to_vec()),
            (kind, other) => return Err(unexpected(kind, &format!("{:?}", other.data_type())).into()),
        })
    }

    /// Of a column that was selected as [`Kind::selected`] says.
    pub(super) fn of_target(kind: Kind, row: &tokio_postgres::Row, column: usize) -> Result<Value> {
        Ok(match kind {
            Kind::Id => row.try_get::<_, Option<Uuid>>(column)?.map_or(Value::Null, Value::Id),
            Kind::Int | Kind::Twin => row.try_get::<_, Option<i64>>(column)?.map_or(Value::Null, Value::Int),
            Kind::Real => row.try_get::<_, Option<f64>>(column)?.map_or(Value::Null, Value::Real),
            Kind::Bool => row.try_get::<_, Option<bool>>(column)?.map_or(Value::Null, Value::Bool),
            Kind::Text => row.try_get::<_, Option<String>>(column)?.map_or(Value::Null, Value::Text),
            Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(column)?.map_or(Value::Null, Value::Bytes),
            Kind::Json => match row.try_get::<_, Option<&str>>(column)? {
                Some(text) => Value::Text(json(text)?),
                None => Value::Null,
            },
        })
    }

    fn add_to(&self, bytes: &mut Vec<u8>) {
        let (tag, content): (u8, &[u8]) = match self {
            Value::Null => (0, &[]),
            Value::Id(id) => (1, id.as_bytes()),
            Value::Int(number) => (2, &number.to_be_bytes()),
            Value::Real(number) => (3, &number.to_be_bytes()),
            Value::Bool(yes) => (4, &[u8::from(*yes)]),
            Value::Text(text) => (5, text.as_bytes()),
            Value::Bytes(content) => (6, content),
        };
        bytes.push(tag);
        bytes.extend_from_slice(&(content.len() as u64).to_be_bytes());
        bytes.extend_from_slice(content);
    }

    /// About how much room it takes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Value::Text(text) => text.len() + 8,
            Value::Bytes(bytes) => bytes.len() + 8,
            _ => 16,
        }
    }
}

fn unexpected(kind: Kind, found: &str) -> anyhow::Error {
    anyhow::anyhow!("the source has {found} where {kind:?} is expected")
}

/// How many rows, and the sum of their hashes, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) rows: u64,
    pub(super) hash: u128,
}

impl Sum {
    pub(super) fn add(&mut self, line: &[Value]) {
        let mut bytes = Vec::with_capacity(256);
        line.iter().for_each(|value| value.add_to(&mut bytes));
        let hash = digest(&SHA256, &bytes);
        let mut first = [0; 16];
        first.copy_from_slice(&hash.as_ref()[..16]);
        self.rows += 1;
        self.hash = self.hash.wrapping_add(u128::from_be_bytes(first));
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.hash.to_be_bytes().to_vec()
    }

    pub(super) fn of(rows: i64, bytes: &[u8]) -> anyhow::Result<Sum> {
        let Ok(bytes) = <[u8; 16]>::try_from(bytes) else { bail!("a stored checksum is damaged") };
        Ok(Sum { rows: u64::try_from(rows)?, hash: u128::from_be_bytes(bytes) })
    }
}

/// The values of one column of a batch, as an array to bind.
#[derive(Debug)]
pub(super) enum Array {
    Id(Vec<Option<Uuid>>),
    Int(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Bool(Vec<Option<bool>>),
    Text(Vec<Option<String>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Kind {
    pub(super) fn array(self) -> Array {
        match self {
            Kind::Id => Array::Id(Vec::new()),
            Kind::Int | Kind::Twin => Array::Int(Vec::new()),
            Kind::Real => Array::Real(Vec::new()),
            Kind::Bool => Array::Bool(Vec::new()),
            Kind::Text | Kind::Json => Array::Text(Vec::new()),
            Kind::Bytes => Array::Bytes(Vec::new()),
        }
    }

    /// The column as it is read back.
    pub(super) fn selected(self, column: &str) -> String {
        match self {
            Kind::Int | Kind::Twin => format!("{column}::bigint"),
            Kind::Json => format!("{column}::text"),
            _ => column.to_owned(),
        }
    }
}

impl Array {
    pub(super) fn push(&mut self, value: Value) {
        match (self, value) {
            (Array::Id(all), Value::Id(id)) => all.push(Some(id)),
            (Array::Int(all), Value::Int(number)) => all.push(Some(number)),
            (Array::Real(all), Value::Real(number)) => all.push(Some(number)),
            (Array::Bool(all), Value::Bool(yes)) => all.push(Some(yes)),
            (Array::Text(all), Value::Text(text)) => all.push(Some(text)),
            (Array::Bytes(all), Value::Bytes(bytes)) => all.push(Some(bytes)),
            (Array::Id(all), _) => all.push(None),
            (Array::Int(all), _) => all.push(None),
            (Array::Real(all), _) => all.push(None),
            (Array::Bool(all), _) => all.push(None),
            (Array::Text(all), _) => all.push(None),
            (Array::Bytes(all), _) => all.push(None),
        }
    }

    pub(super) fn bound(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Array::Id(all) => (all, Type::UUID_ARRAY),
            Array::Int(all) => (all, Type::INT8_ARRAY),
            Array::Real(all) => (all, Type::FLOAT8_ARRAY),
            Array::Bool(all) => (all, Type::BOOL_ARRAY),
            Array::Text(all) => (all, Type::TEXT_ARRAY),
            Array::Bytes(all) => (all, Type::BYTEA_ARRAY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_tells_every_difference_but_the_order_of_rows() {
        let sum = |lines: &[Line]| {
            let mut sum = Sum::default();
            lines.iter().for_each(|line| sum.add(line));
            sum
        };
        let text = |text: &str| Value::Text(text.into());
        let lines = [vec![text("ab"), text("c")], vec![Value::Null, Value::Int(7)]];
        let turned = [lines[1].clone(), lines[0].clone()];
        assert_eq!(sum(&lines), sum(&turned));
        assert_ne!(sum(&lines), sum(&[vec![text("a"), text("bc")], lines[1].clone()]));
        assert_ne!(sum(&lines), sum(&[lines[0].clone(), vec![text(""), Value::Int(7)]]));
        assert_ne!(sum(&lines), sum(&lines[..1]));
        assert_ne!(sum(&[lines[0].clone()]), sum(&[lines[0].clone(), lines[0].clone()]));
    }
}
