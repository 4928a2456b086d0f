//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn claim(_store: &PgStore, _key: &ReplyKey, _fingerprint: [u8; 32], _now: UnixMs) -> Result<Claim> {
    todo!()
}

pub(super) async fn finish(_store: &PgStore, _key: &ReplyKey, _reply: Option<StoredReply>, _now: UnixMs) -> Result<()> {
    todo!()
}

pub(super) async fn get_setting(_store: &PgStore, _name: &str) -> Result<Option<Vec<u8>>> {
    todo!()
}

pub(super) async fn put_setting(_store: &PgStore, _name: &str, _value: Vec<u8>) -> Result<()> {
    todo!()
}

pub(super) async fn init_setting(_store: &PgStore, _name: &str, _value: Vec<u8>) -> Result<Vec<u8>> {
    todo!()
}
