//! Sessions and links that are good for one use.

use deadpool_postgres::Object;
use postrider_core::limits::SESSIONS_PER_OWNER_MAX;
use postrider_core::time::UnixMs;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PgStore;
use super::audit;
use super::row::{json, json_at};
use crate::store::{AuditEntry, Ending, LinkKind, LinkRecord, Result, SessionRecord};

pub(super) async fn put_session(store: &PgStore, put: SessionRecord, entry: Option<AuditEntry>) -> Result<()> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    tx.execute_typed(
        "INSERT INTO sessions (hash, id, owner, created_at, expires_at, body) VALUES ($1, $2, $3, $4, $5, $6)",
        &[
            (&put.hash.as_slice(), Type::BYTEA),
            (&put.id, Type::UUID),
            (&put.owner, Type::UUID),
            (&put.created_at.0, Type::INT8),
            (&put.expires_at.0, Type::INT8),
            (&json(&put)?, Type::TEXT),
        ],
    )
    .await?;
    tx.execute_typed(
        "DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE owner = $1 \
         ORDER BY hash = $2 DESC, created_at DESC OFFSET $3)",
        &[
            (&put.owner, Type::UUID),
            (&put.hash.as_slice(), Type::BYTEA),
            (&(SESSIONS_PER_OWNER_MAX as i64), Type::INT8),
        ],
    )
    .await?;
    audit::append_some(&tx, entry.as_ref()).await?;
    Ok(tx.commit().await?)
}

pub(super) async fn renew_session(store: &PgStore, renewed: SessionRecord) -> Result<bool> {
    let client = store.reader().await?;
    let updated = client
        .execute_typed(
            "UPDATE sessions SET expires_at = $1, body = $2 WHERE hash = $3",
            &[
                (&renewed.expires_at.0, Type::INT8),
                (&json(&renewed)?, Type::TEXT),
                (&renewed.hash.as_slice(), Type::BYTEA),
            ],
        )
        .await?;
    Ok(updated == 1)
}

pub(super) async fn session(store: &PgStore, hash: [u8; 32], now: UnixMs) -> Result<Option<SessionRecord>> {
    let client = store.reader().await?;
    let sql = "SELECT body FROM sessions WHERE hash = $1 AND expires_at > $2";
    let row = client.query_typed_opt(sql, &[(&hash.as_slice(), Type::BYTEA), (&now.0, Type::INT8)]).await?;
    row.map(|row| json_at(&row, 0)).transpose()
}

pub(super) async fn sessions(store: &PgStore, owner: Uuid, now: UnixMs) -> Result<Vec<SessionRecord>> {
    let client = store.reader().await?;
    let sql = "SELECT body FROM sessions WHERE owner = $1 AND expires_at > $2 ORDER BY created_at DESC, id DESC";
    let rows = client.query_typed(sql, &[(&owner, Type::UUID), (&now.0, Type::INT8)]).await?;
    rows.iter().map(|row| json_at(row, 0)).collect()
}

pub(super) async fn end_sessions(
    store: &PgStore,
    owner: Uuid,
    which: Ending,
    entry: Option<AuditEntry>,
) -> Result<usize> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    let (sql, id) = match which {
        Ending::One(id) => ("DELETE FROM sessions WHERE owner = $1 AND id = $2", Some(id)),
        Ending::AllBut(kept) => ("DELETE FROM sessions WHERE owner = $1 AND id IS DISTINCT FROM $2", kept),
    };
    let ended = tx.execute_typed(sql, &[(&owner, Type::UUID), (&id, Type::UUID)]).await?;
    audit::append_some(&tx, entry.as_ref().filter(|_| ended > 0)).await?;
    tx.commit().await?;
    Ok(usize::try_from(ended).unwrap_or(usize::MAX))
}

pub(super) async fn put_link(store: &PgStore, link: LinkRecord, entry: Option<AuditEntry>) -> Result<()> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    let kind = link.kind.name();
    let replaces = "DELETE FROM links WHERE hash IN (SELECT hash FROM links WHERE owner = $1 AND kind = $2 \
                    ORDER BY expires_at DESC, hash OFFSET $3)";
    let kept = link.kind.most() as i64 - 1;
    tx.execute_typed(replaces, &[(&link.owner, Type::UUID), (&kind, Type::TEXT), (&kept, Type::INT8)]).await?;
    tx.execute_typed(
        "INSERT INTO links (hash, kind, owner, expires_at, body) VALUES ($1, $2, $3, $4, $5)",
        &[
            (&link.hash.as_slice(), Type::BYTEA),
            (&kind, Type::TEXT),
            (&link.owner, Type::UUID),
            (&link.expires_at.0, Type::INT8),
            (&json(&link)?, Type::TEXT),
        ],
    )
    .await?;
    audit::append_some(&tx, entry.as_ref()).await?;
    Ok(tx.commit().await?)
}

pub(super) async fn link(store: &PgStore, hash: [u8; 32], now: UnixMs) -> Result<Option<LinkRecord>> {
    let client = store.reader().await?;
    let sql = "SELECT body FROM links WHERE hash = $1 AND expires_at > $2";
    let row = client.query_typed_opt(sql, &[(&hash.as_slice(), Type::BYTEA), (&now.0, Type::INT8)]).await?;
    row.map(|row| json_at(&row, 0)).transpose()
}

pub(super) async fn link_by_id(store: &PgStore, kind: LinkKind, id: Uuid, now: UnixMs) -> Result<Option<LinkRecord>> {
    let client = store.reader().await?;
    let [least, greatest] = LinkRecord::hashes(id);
    let sql = "SELECT body FROM links WHERE hash BETWEEN $1 AND $2 AND kind = $3 AND expires_at > $4 LIMIT 1";
    let row = client
        .query_typed_opt(
            sql,
            &[
                (&least.as_slice(), Type::BYTEA),
                (&greatest.as_slice(), Type::BYTEA),
                (&kind.name(), Type::TEXT),
                (&now.0, Type::INT8),
            ],
        )
        .await?;
    row.map(|row| json_at(&row, 0)).transpose()
}

pub(super) async fn links(store: &PgStore, owner: Uuid, kind: LinkKind, now: UnixMs) -> Result<Vec<LinkRecord>> {
    let client = store.reader().await?;
    let sql = "SELECT body FROM links WHERE owner = $1 AND kind = $2 AND expires_at > $3";
    let parameters = &[(&owner as _, Type::UUID), (&kind.name() as _, Type::TEXT), (&now.0 as _, Type::INT8)];
    let rows = client.query_typed(sql, parameters).await?;
    rows.iter().map(|row| json_at(row, 0)).collect()
}

pub(super) async fn take_link(
    store: &PgStore,
    hash: [u8; 32],
    now: UnixMs,
    entry: Option<AuditEntry>,
) -> Result<Option<LinkRecord>> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    let sql = "DELETE FROM links WHERE hash = $1 AND expires_at > $2 RETURNING body";
    let row = tx.query_typed_opt(sql, &[(&hash.as_slice(), Type::BYTEA), (&now.0, Type::INT8)]).await?;
    let taken = row.map(|row| json_at(&row, 0)).transpose()?;
    audit::append_some(&tx, entry.as_ref().filter(|_| taken.is_some())).await?;
    tx.commit().await?;
    Ok(taken)
}

pub(super) async fn drop_links(store: &PgStore, owner: Uuid) -> Result<()> {
    let client = store.reader().await?;
    client.execute_typed("DELETE FROM links WHERE owner = $1", &[(&owner, Type::UUID)]).await?;
    Ok(())
}

/// Removes what has ended, at most `limit` of each; how many of each.
pub(super) async fn remove_expired(client: &Object, now: UnixMs, limit: i64) -> Result<[u64; 2]> {
    let mut removed = [0; 2];
    for (count, table) in removed.iter_mut().zip(["sessions", "links"]) {
        let sql = format!(
            "DELETE FROM {table} WHERE hash IN (SELECT hash FROM {table} WHERE expires_at <= $1 \
             ORDER BY expires_at LIMIT $2)"
        );
        *count = client.execute_typed(&sql, &[(&now.0, Type::INT8), (&limit, Type::INT8)]).await?;
    }
    Ok(removed)
}
