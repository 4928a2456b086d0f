//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn stats(_store: &PgStore, _query: StatsQuery) -> Result<Stats> {
    todo!()
}

pub(super) async fn health(_store: &PgStore, _webhooks: &[WebhookId]) -> Result<Vec<WebhookHealth>> {
    todo!()
}
