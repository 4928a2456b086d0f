//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn log(_store: &PgStore, _query: AuditQuery) -> Result<Listed<AuditRecord>> {
    todo!()
}

pub(super) async fn append_alone(_store: &PgStore, _entry: AuditEntry) -> Result<()> {
    todo!()
}
