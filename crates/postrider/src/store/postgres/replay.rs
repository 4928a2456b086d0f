//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn count(_store: &PgStore, _select: &ReplaySelect) -> Result<u64> {
    todo!()
}

pub(super) async fn create(_store: &PgStore, _replay: ReplayRecord, _audit: AuditEntry) -> Result<()> {
    todo!()
}

pub(super) async fn get(_store: &PgStore, _scope: Scope, _id: ReplayId) -> Result<Option<ReplayRecord>> {
    todo!()
}

pub(super) async fn list(_store: &PgStore, _scope: Scope, _page: Page) -> Result<Listed<ReplayRecord>> {
    todo!()
}

pub(super) async fn unfinished(_store: &PgStore) -> Result<Vec<ReplayRecord>> {
    todo!()
}

pub(super) async fn next(
    _store: &PgStore,
    _select: &ReplaySelect,
    _cursor: i64,
    _limit: usize,
) -> Result<Vec<ReplayMatch>> {
    todo!()
}

pub(super) async fn advance(_store: &PgStore, _step: ReplayStep, _now: UnixMs) -> Result<bool> {
    todo!()
}

pub(super) async fn cancel(
    _store: &PgStore,
    _scope: Scope,
    _id: ReplayId,
    _now: UnixMs,
    _audit: AuditEntry,
) -> Result<Option<ReplayRecord>> {
    todo!()
}
