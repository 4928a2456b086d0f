//! Replies to idempotent API requests, and small sealed settings.

use postrider_core::limits::IDEMPOTENCY_SPAN;
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OptionalExtension, params};

use super::row::{Sql, time_at};
use super::writer::Session;
use crate::store::{Claim, ReplyKey, Result, StoredReply};

pub(super) fn claim(session: &Session, key: &ReplyKey, fingerprint: [u8; 32], now: UnixMs) -> Result<Claim> {
    let mut select = session.conn.prepare_cached(
        "SELECT fingerprint, at, status, sealed_body FROM replies WHERE caller = ? AND route = ? AND key = ?",
    )?;
    let found = select.query_row(params![key.caller, key.route, key.key], |row| {
        let status: Option<u16> = row.get(2)?;
        let body: Option<Vec<u8>> = row.get(3)?;
        let reply = status.map(|status| StoredReply { status, sealed_body: body.unwrap_or_default() });
        Ok((row.get::<_, [u8; 32]>(0)?, time_at(row, 1)?, reply))
    });
    let fresh_since = now - IDEMPOTENCY_SPAN;
    match found.optional()? {
        Some((known, at, reply)) if at >= fresh_since => Ok(match reply {
            _ if known != fingerprint => Claim::Mismatch,
            Some(reply) => Claim::Done(reply),
            None => Claim::InProgress,
        }),
        _ => {
            session
                .conn
                .prepare_cached(
                    "INSERT OR REPLACE INTO replies (caller, route, key, fingerprint, at) VALUES (?, ?, ?, ?, ?)",
                )?
                .execute(params![key.caller, key.route, key.key, fingerprint, now.0])?;
            Ok(Claim::Fresh)
        }
    }
}

pub(super) fn finish(session: &Session, key: &ReplyKey, reply: Option<&StoredReply>, now: UnixMs) -> Result<()> {
    let whose = "WHERE caller = ?1 AND route = ?2 AND key = ?3 AND status IS NULL";
    match reply {
        Some(reply) => session
            .conn
            .prepare_cached(&format!("UPDATE replies SET status = ?4, sealed_body = ?5, at = ?6 {whose}"))?
            .execute(params![key.caller, key.route, key.key, reply.status, reply.sealed_body, now.0])?,
        None => session
            .conn
            .prepare_cached(&format!("DELETE FROM replies {whose}"))?
            .execute(params![key.caller, key.route, key.key])?,
    };
    Ok(())
}

pub(super) fn get_setting(conn: &Connection, name: &str) -> Result<Option<Vec<u8>>> {
    let mut select = conn.prepare_cached("SELECT value FROM settings WHERE name = ?")?;
    let value: Sql<Vec<u8>> = select.query_row([name], |row| row.get(0));
    Ok(value.optional()?)
}

pub(super) fn put_setting(session: &Session, name: &str, value: &[u8]) -> Result<()> {
    session
        .conn
        .prepare_cached(
            "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
        )?
        .execute(params![name, value])?;
    Ok(())
}

pub(super) fn replace_setting(session: &Session, name: &str, (former, value): (&[u8], &[u8])) -> Result<bool> {
    let sql = "UPDATE settings SET value = ? WHERE name = ? AND value = ?";
    Ok(session.conn.prepare_cached(sql)?.execute(params![value, name, former])? == 1)
}

pub(super) fn init_setting(session: &Session, name: &str, value: &[u8]) -> Result<Vec<u8>> {
    session
        .conn
        .prepare_cached("INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING")?
        .execute(params![name, value])?;
    Ok(get_setting(&session.conn, name)?.unwrap_or_default())
}
