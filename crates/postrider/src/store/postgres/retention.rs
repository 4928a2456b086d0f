//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn gauges(_store: &PgStore, _now: UnixMs) -> Result<Gauges> {
    todo!()
}

pub(super) async fn sweep(_store: &PgStore, _now: UnixMs, _keep_days: u32) -> Result<SweepReport> {
    todo!()
}
