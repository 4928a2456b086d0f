//! Replies to idempotent API requests, and small sealed settings.

use postrider_core::limits::IDEMPOTENCY_SPAN;
use postrider_core::time::UnixMs;
use tokio_postgres::types::{ToSql, Type};

use super::PgStore;
use super::row::clean;
use crate::store::{Claim, ReplyKey, Result, StoredReply};

/// The key is free when its span is over, or when the node that worked on the request is dead.
const CLAIM: &str = "INSERT INTO replies AS known (caller, route, key, fingerprint, at, session) \
    VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (caller, route, key) DO UPDATE SET fingerprint = excluded.fingerprint, at = excluded.at, \
      session = excluded.session, status = NULL, sealed_body = NULL \
    WHERE known.at < $7 OR (known.status IS NULL AND known.session <> $6 AND NOT EXISTS \
      (SELECT 1 FROM nodes WHERE nodes.session = known.session AND NOT nodes.dead))";

pub(super) async fn claim(store: &PgStore, key: &ReplyKey, fingerprint: [u8; 32], now: UnixMs) -> Result<Claim> {
    let client = store.reader().await?;
    let (caller, route, name) = (clean(&key.caller), clean(&key.route), clean(&key.key));
    let fresh_since = (now - IDEMPOTENCY_SPAN).0;
    loop {
        let claimed = client
            .execute_typed(
                CLAIM,
                &[
                    (&caller, Type::TEXT),
                    (&route, Type::TEXT),
                    (&name, Type::TEXT),
                    (&fingerprint.as_slice(), Type::BYTEA),
                    (&now.0, Type::INT8),
                    (&store.session(), Type::INT4),
                    (&fresh_since, Type::INT8),
                ],
            )
            .await?;
        if claimed == 1 {
            return Ok(Claim::Fresh);
        }
        let found = client
            .query_typed_opt(
                "SELECT fingerprint, status, sealed_body FROM replies WHERE caller = $1 AND route = $2 AND key = $3",
                &[(&caller, Type::TEXT), (&route, Type::TEXT), (&name, Type::TEXT)],
            )
            .await?;
        // Given up since: it is free again.
        let Some(row) = found else { continue };
        if row.try_get::<_, &[u8]>(0)? != fingerprint {
            return Ok(Claim::Mismatch);
        }
        return Ok(match row.try_get::<_, Option<i16>>(1)? {
            Some(status) => Claim::Done(StoredReply {
                status: status.cast_unsigned(),
                sealed_body: row.try_get::<_, Option<Vec<u8>>>(2)?.unwrap_or_default(),
            }),
            None => Claim::InProgress,
        });
    }
}

/// Of another session's claim nothing is kept: it was taken for dead, and the key may be somebody else's by now.
pub(super) async fn finish(store: &PgStore, key: &ReplyKey, reply: Option<StoredReply>, now: UnixMs) -> Result<()> {
    let client = store.reader().await?;
    let (status, body) = match &reply {
        Some(reply) => (Some(reply.status.cast_signed()), Some(reply.sealed_body.as_slice())),
        None => (None, None),
    };
    let whose = "WHERE caller = $1 AND route = $2 AND key = $3 AND status IS NULL AND session = $7";
    let sql = match &reply {
        Some(_) => format!("UPDATE replies SET status = $4, sealed_body = $5, at = $6 {whose}"),
        None => format!("DELETE FROM replies {whose}"),
    };
    client
        .execute_typed(
            &sql,
            &[
                (&clean(&key.caller), Type::TEXT),
                (&clean(&key.route), Type::TEXT),
                (&clean(&key.key), Type::TEXT),
                (&status, Type::INT2),
                (&body, Type::BYTEA),
                (&now.0, Type::INT8),
                (&store.session(), Type::INT4),
            ],
        )
        .await?;
    Ok(())
}

pub(super) async fn get_setting(store: &PgStore, name: &str) -> Result<Option<Vec<u8>>> {
    let client = store.reader().await?;
    let row = client.query_typed_opt("SELECT value FROM settings WHERE name = $1", &[(&name, Type::TEXT)]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn put_setting(store: &PgStore, name: &str, value: Vec<u8>) -> Result<()> {
    let client = store.reader().await?;
    let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) \
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    client.execute_typed(sql, &[(&name, Type::TEXT), (&value, Type::BYTEA)]).await?;
    Ok(())
}

pub(super) async fn replace_setting(store: &PgStore, name: &str, (former, value): (Vec<u8>, Vec<u8>)) -> Result<bool> {
    let client = store.reader().await?;
    let sql = "UPDATE settings SET value = $3 WHERE name = $1 AND value = $2";
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&name, Type::TEXT), (&former, Type::BYTEA), (&value, Type::BYTEA)];
    Ok(client.execute_typed(sql, &parameters).await? == 1)
}

pub(super) async fn init_setting(store: &PgStore, name: &str, value: Vec<u8>) -> Result<Vec<u8>> {
    let client = store.reader().await?;
    let sql = "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
    client.execute_typed(sql, &[(&name, Type::TEXT), (&value, Type::BYTEA)]).await?;
    let row = client.query_typed_one("SELECT value FROM settings WHERE name = $1", &[(&name, Type::TEXT)]).await?;
    Ok(row.try_get(0)?)
}
