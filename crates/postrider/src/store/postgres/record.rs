//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn record(_store: &PgStore, _outcomes: Vec<Recorded>, _now: UnixMs) -> Result<Vec<bool>> {
    todo!()
}
