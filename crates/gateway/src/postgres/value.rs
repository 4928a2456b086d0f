//! JSON as PostgreSQL's text format of a parameter's type. PostgreSQL itself reads the text, so what a type accepts is
//! its own decision, and no number passes through another form on the way.

use std::error::Error;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type};

use crate::json::{Json, Shape};
use crate::statement::Bound;

/// A parameter in text format.
#[derive(Clone, Debug)]
pub(super) struct Text(pub(super) Option<String>);

impl ToSql for Text {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.to_sql(ty, out)
    }
}

/// What to send for `value` where a `ty` is expected; the error is a sentence for the caller.
pub(super) fn text(value: &Bound, ty: &Type) -> Result<Text, String> {
    let text = match value {
        Bound::Count(count) => Some(count.to_string()),
        Bound::Value(value) => of(value, ty)?,
        Bound::Pattern(pattern) => pattern.as_text(),
    };
    match text {
        Some(text) if text.contains('\0') => Err("A text may not hold the character NUL.".to_owned()),
        text => Ok(Text(text)),
    }
}

fn of(value: &Json, ty: &Type) -> Result<Option<String>, String> {
    if value.is_null() {
        return Ok(None);
    }
    if *ty == Type::JSON || *ty == Type::JSONB {
        return Ok(Some(value.as_str().to_owned()));
    }
    match (ty.kind(), value.shape()) {
        (Kind::Domain(inner), _) => of(value, inner),
        (Kind::Array(element), Shape::Array(items)) => array(&items, element).map(Some),
        (Kind::Composite(fields), Shape::Object(members)) => {
            if let Some(unknown) = members.keys().find(|name| !fields.iter().any(|field| field.name() == *name)) {
                return Err(format!("The type {} has no field {unknown:?}.", ty.name()));
            }
            let texts = fields.iter().map(|field| match members.get(field.name()) {
                Some(value) => of(value, field.type_()),
                None => Ok(None),
            });
            let texts: Vec<_> = texts
                .map(|text| Ok(text?.map_or_else(String::new, |text| quoted(&text))))
                .collect::<Result<_, String>>()?;
            Ok(Some(format!("({})", texts.join(","))))
        }
        (_, Shape::Text(text)) if *ty == Type::BYTEA => bytea(&text).map(Some),
        _ if *ty == Type::BYTEA => Err("Binary data is given as a text in base64.".to_owned()),
        (_, Shape::Text(text)) => Ok(Some(text.into_owned())),
        _ => Ok(Some(value.as_str().to_owned())),
    }
}

/// An array literal.
fn array(items: &[Json], element: &Type) -> Result<String, String> {
    let texts = items.iter().map(|item| match item.shape() {
        Shape::Null => Ok("NULL".to_owned()),
        Shape::Array(inner) if !takes_json(element) => array(&inner, element),
        _ => Ok(quoted(&of(item, element)?.unwrap_or_default())),
    });
    Ok(format!("{{{}}}", texts.collect::<Result<Vec<_>, String>>()?.join(",")))
}

fn takes_json(ty: &Type) -> bool {
    *ty == Type::JSON || *ty == Type::JSONB
}

/// An element of an array's or a record's literal.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// Base64 as PostgreSQL's hex form.
fn bytea(text: &str) -> Result<String, String> {
    let bytes = crate::json::base64(text).ok_or("The text is not base64.")?;
    let mut hex = String::with_capacity(2 + bytes.len() * 2);
    hex.push_str("\\x");
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            hex.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    Ok(hex)
}

/// PostgreSQL's hex form as base64; `None` when it is something else.
pub(super) fn base64_of(hex: &str) -> Option<String> {
    let digits = hex.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> = digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect();
    Some(STANDARD.encode(bytes?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sent(json: &str, ty: &Type) -> String {
        let value = Bound::Value(Json::parse(json.as_bytes()).unwrap());
        text(&value, ty).unwrap().0.unwrap_or_else(|| "NULL".to_owned())
    }

    #[test]
    fn values_are_written_as_their_type_reads_them() {
        assert_eq!(sent("12345678901234567890.10", &Type::NUMERIC), "12345678901234567890.10");
        assert_eq!(sent("null", &Type::JSONB), "NULL");
        assert_eq!(sent(r#""a\"b""#, &Type::JSONB), r#""a\"b""#);
        assert_eq!(sent(r#""a\"b""#, &Type::TEXT), "a\"b");
        assert_eq!(sent("true", &Type::TEXT), "true");
        assert_eq!(sent(r#"{"a":[1]}"#, &Type::TEXT), r#"{"a":[1]}"#);
        assert_eq!(sent(r#""AAH/""#, &Type::BYTEA), "\\x0001ff");
        assert_eq!(base64_of("\\x0001ff").unwrap(), "AAH/");
    }

    #[test]
    fn arrays_are_written_as_literals() {
        assert_eq!(sent(r#"["a\"\\,{}",null,"NULL",""]"#, &Type::TEXT_ARRAY), r#"{"a\"\\,{}",NULL,"NULL",""}"#);
        assert_eq!(sent("[[1,2],[3,4]]", &Type::INT4_ARRAY), r#"{{"1","2"},{"3","4"}}"#);
        assert_eq!(sent("[]", &Type::INT4_ARRAY), "{}");
        assert_eq!(sent(r#"[{"a":1},[2]]"#, &Type::JSONB_ARRAY), r#"{"{\"a\":1}","[2]"}"#);
        assert_eq!(sent(r#""{1,2}""#, &Type::INT4_ARRAY), "{1,2}");
    }

    #[test]
    fn what_no_type_takes_is_refused_here() {
        let refused = |json: &str, ty: &Type| text(&Bound::Value(Json::parse(json.as_bytes()).unwrap()), ty).is_err();
        assert!(refused(r#""a\u0000b""#, &Type::TEXT));
        assert!(refused(r#"["a\u0000b"]"#, &Type::TEXT_ARRAY));
        assert!(refused(r#""not base64!""#, &Type::BYTEA));
        assert!(refused("17", &Type::BYTEA));
    }
}
