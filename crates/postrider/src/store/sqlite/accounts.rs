//! Sessions and links that are good for one use.

use postrider_core::limits::SESSIONS_PER_OWNER_MAX;
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use uuid::Uuid;

use super::audit;
use super::row::{Sql, json_at};
use super::writer::Session;
use crate::store::{AuditEntry, Ending, LinkKind, LinkRecord, Result, SessionRecord};

fn json<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value).map_err(anyhow::Error::new)?)
}

pub(super) fn put_session(session: &Session, put: &SessionRecord, entry: Option<&AuditEntry>) -> Result<()> {
    let owner = put.owner.into_bytes();
    session
        .conn
        .prepare_cached(
            "INSERT INTO sessions (hash, id, owner, created_at, expires_at, body) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![put.hash, put.id.into_bytes(), owner, put.created_at.0, put.expires_at.0, json(put)?])?;
    session
        .conn
        .prepare_cached(
            "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE owner = ? \
             ORDER BY hash = ? DESC, created_at DESC LIMIT -1 OFFSET ?)",
        )?
        .execute(params![owner, put.hash, SESSIONS_PER_OWNER_MAX as i64])?;
    audit::append_if(true, &session.conn, entry)
}

pub(super) fn renew_session(session: &Session, renewed: &SessionRecord) -> Result<bool> {
    let mut update = session.conn.prepare_cached("UPDATE sessions SET expires_at = ?, body = ? WHERE hash = ?")?;
    Ok(update.execute(params![renewed.expires_at.0, json(renewed)?, renewed.hash])? == 1)
}

pub(super) fn session(conn: &Connection, hash: [u8; 32], now: UnixMs) -> Result<Option<SessionRecord>> {
    let mut select = conn.prepare_cached("SELECT body FROM sessions WHERE hash = ? AND expires_at > ?")?;
    Ok(select.query_row(params![hash, now.0], |row| json_at(row, 0)).optional()?)
}

pub(super) fn sessions(conn: &Connection, owner: Uuid, now: UnixMs) -> Result<Vec<SessionRecord>> {
    let mut select = conn.prepare_cached(
        "SELECT body FROM sessions WHERE owner = ? AND expires_at > ? ORDER BY created_at DESC, id DESC",
    )?;
    let rows = select.query_map(params![owner.into_bytes(), now.0], |row| json_at(row, 0))?;
    Ok(rows.collect::<Sql<_>>()?)
}

pub(super) fn end_sessions(session: &Session, owner: Uuid, which: Ending, entry: Option<&AuditEntry>) -> Result<usize> {
    let owner = owner.into_bytes();
    let ended = match which {
        Ending::One(id) => {
            let sql = "DELETE FROM sessions WHERE owner = ? AND id = ?";
            session.conn.prepare_cached(sql)?.execute(params![owner, id.into_bytes()])?
        }
        Ending::AllBut(kept) => {
            let sql = "DELETE FROM sessions WHERE owner = ? AND id IS NOT ?";
            session.conn.prepare_cached(sql)?.execute(params![owner, kept.map(Uuid::into_bytes)])?
        }
    };
    audit::append_if(ended > 0, &session.conn, entry)?;
    Ok(ended)
}

pub(super) fn put_link(session: &Session, link: &LinkRecord, entry: Option<&AuditEntry>) -> Result<()> {
    let owner = link.owner.map(Uuid::into_bytes);
    let replaces = "DELETE FROM links WHERE hash IN (SELECT hash FROM links WHERE owner = ? AND kind = ? \
                    ORDER BY expires_at DESC, hash LIMIT -1 OFFSET ?)";
    let kept = link.kind.most() as i64 - 1;
    session.conn.prepare_cached(replaces)?.execute(params![owner, link.kind.name(), kept])?;
    session
        .conn
        .prepare_cached("INSERT INTO links (hash, kind, owner, expires_at, body) VALUES (?, ?, ?, ?, ?)")?
        .execute(params![link.hash, link.kind.name(), owner, link.expires_at.0, json(link)?])?;
    audit::append_if(true, &session.conn, entry)
}

pub(super) fn link(conn: &Connection, hash: [u8; 32], now: UnixMs) -> Result<Option<LinkRecord>> {
    let mut select = conn.prepare_cached("SELECT body FROM links WHERE hash = ? AND expires_at > ?")?;
    Ok(select.query_row(params![hash, now.0], |row| json_at(row, 0)).optional()?)
}

pub(super) fn link_by_id(conn: &Connection, kind: LinkKind, id: Uuid, now: UnixMs) -> Result<Option<LinkRecord>> {
    let [least, greatest] = LinkRecord::hashes(id);
    let sql = "SELECT body FROM links WHERE hash BETWEEN ? AND ? AND kind = ? AND expires_at > ? LIMIT 1";
    let mut select = conn.prepare_cached(sql)?;
    Ok(select.query_row(params![least, greatest, kind.name(), now.0], |row| json_at(row, 0)).optional()?)
}

pub(super) fn links(conn: &Connection, owner: Uuid, kind: LinkKind, now: UnixMs) -> Result<Vec<LinkRecord>> {
    let mut select = conn.prepare_cached("SELECT body FROM links WHERE owner = ? AND kind = ? AND expires_at > ?")?;
    let rows = select.query_map(params![owner.into_bytes(), kind.name(), now.0], |row| json_at(row, 0))?;
    Ok(rows.collect::<Sql<_>>()?)
}

pub(super) fn take_link(
    session: &Session,
    hash: [u8; 32],
    now: UnixMs,
    entry: Option<&AuditEntry>,
) -> Result<Option<LinkRecord>> {
    let sql = "DELETE FROM links WHERE hash = ? AND expires_at > ? RETURNING body";
    let mut delete = session.conn.prepare_cached(sql)?;
    let taken: Option<LinkRecord> = delete.query_row(params![hash, now.0], |row| json_at(row, 0)).optional()?;
    audit::append_if(taken.is_some(), &session.conn, entry)?;
    Ok(taken)
}

pub(super) fn drop_links(session: &Session, owner: Uuid) -> Result<()> {
    session.conn.prepare_cached("DELETE FROM links WHERE owner = ?")?.execute([owner.into_bytes()])?;
    Ok(())
}

/// Removes what has ended, at most `limit` of each; how many of each.
pub(super) fn remove_expired(conn: &Connection, now: UnixMs, limit: i64) -> Result<[usize; 2]> {
    let mut removed = [0; 2];
    for (count, table) in removed.iter_mut().zip(["sessions", "links"]) {
        let sql = format!(
            "DELETE FROM {table} WHERE hash IN (SELECT hash FROM {table} INDEXED BY {table}_expires_at \
             WHERE expires_at <= ? LIMIT ?)"
        );
        *count = conn.prepare_cached(&sql)?.execute(params![now.0, limit])?;
    }
    Ok(removed)
}
