//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn accept(_store: &PgStore, _events: Vec<NewEvent>, _now: UnixMs) -> Result<Vec<Accepted>> {
    todo!()
}
