//! The chain of the audit log: each entry's hash covers the entry and the hash before it, so that no entry can be changed,
//! removed or put in between without every later hash being wrong. Who keeps a hash elsewhere can tell that the log up to
//! it is as it was.

use ring::digest;

use super::AuditEntry;

/// Before the first entry.
pub const START: [u8; 32] = [0; 32];

/// The hash of `entry`, which comes after the one whose hash is `previous`.
pub fn link(previous: &[u8; 32], entry: &AuditEntry) -> [u8; 32] {
    link_line(previous, &line(entry))
}

/// SHA-256 of `previous` and an entry as [`line`] writes it.
pub fn link_line(previous: &[u8; 32], line: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(previous);
    context.update(line);
    context.finish().as_ref().try_into().unwrap_or(START)
}

/// The entry as one line of JSON, its fields in the order of [`AuditEntry`]: what is hashed, and exported byte for byte, so
/// that nobody needs our way of printing JSON to check it. An entry that was stored and read again gives the same bytes.
pub fn line(entry: &AuditEntry) -> Vec<u8> {
    serde_json::to_vec(&Line::of(entry)).unwrap_or_default()
}

/// An entry as it is hashed.
#[derive(serde::Serialize)]
struct Line<'a> {
    id: String,
    at: i64,
    tenant: Option<String>,
    actor: &'a str,
    address: Option<String>,
    request_id: Option<&'a str>,
    action: &'a str,
    target: &'a str,
    before: Option<&'a serde_json::Value>,
    after: Option<&'a serde_json::Value>,
}

impl<'a> Line<'a> {
    fn of(entry: &'a AuditEntry) -> Line<'a> {
        Line {
            id: entry.id.to_string(),
            at: entry.at.0,
            tenant: entry.tenant_id.map(|tenant| tenant.to_string()),
            actor: &entry.actor.id,
            address: entry.actor.address.map(|address| address.to_string()),
            request_id: entry.actor.request_id.as_deref(),
            action: &entry.action,
            target: &entry.target,
            before: entry.before.as_ref(),
            after: entry.after.as_ref(),
        }
    }
}
