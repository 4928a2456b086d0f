//! The driver's side of the sink: starts the process and asks it what came.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::json;

use super::{Addresses, Expectation, Interval, Report, Window};
use crate::ledger::Ledger;
use crate::process::Helper;
use crate::wire::Connection;

/// A running sink.
#[derive(Debug)]
pub(crate) struct Sink {
    /// None: it runs in this process (in tests).
    helper: Option<Helper>,
    addresses: Addresses,
    control: Connection,
}

impl Sink {
    /// Starts a sink process with this many webhooks.
    pub(crate) async fn start(webhooks: usize) -> Result<Sink> {
        let mut helper = Helper::start(&["sink", "--webhooks", &webhooks.to_string()])?;
        let addresses: Addresses = helper.first_line()?;
        Sink::over(Some(helper), addresses).await
    }

    /// A sink in this very process, for tests.
    #[cfg(test)]
    pub(crate) async fn within(webhooks: usize) -> Result<Sink> {
        Sink::over(None, super::listen(webhooks).await?).await
    }

    async fn over(helper: Option<Helper>, addresses: Addresses) -> Result<Sink> {
        let control = Connection::open(addresses.control).await?;
        Ok(Sink { helper, addresses, control })
    }

    pub(crate) fn webhooks(&self) -> &[SocketAddr] {
        &self.addresses.webhooks
    }

    pub(crate) fn pid(&self) -> u32 {
        self.helper.as_ref().map_or_else(std::process::id, Helper::pid)
    }

    /// Forgets everything and expects these webhooks from now on.
    pub(crate) async fn expect(&mut self, expectations: &[Expectation]) -> Result<()> {
        let _: serde_json::Value = self.control.call("POST", "/expect", "", &json!(expectations)).await?;
        Ok(())
    }

    /// Sets the window of recorded latency and empties the histogram.
    pub(crate) async fn window(&mut self, window: &Window) -> Result<()> {
        let _: serde_json::Value = self.control.call("POST", "/window", "", &json!(window)).await?;
        Ok(())
    }

    pub(crate) async fn report(&mut self) -> Result<Report> {
        self.control.call("GET", "/report", "", &json!(null)).await
    }

    /// The sequence numbers that arrived at `webhook`.
    pub(crate) async fn seen(&mut self, webhook: usize) -> Result<Ledger> {
        Ok(Ledger::from_bytes(self.control.call_raw("GET", &format!("/seen/{webhook}"), "", b"").await?))
    }

    /// A connection of its own for [`delivered`] and [`interval`].
    pub(crate) async fn counter(&self) -> Result<Connection> {
        Ok(Connection::open(self.addresses.control).await?)
    }
}

/// How many deliveries arrived so far, at the webhooks that receive.
pub(crate) async fn delivered(counter: &mut Connection) -> Result<u64> {
    let bytes = counter.call_raw("GET", "/delivered", "", b"").await?;
    Ok(u64::from_le_bytes(bytes.try_into().context("the sink's count is not eight bytes")?))
}

/// What came to stumbling webhooks since this was asked last.
pub(crate) async fn interval(counter: &mut Connection) -> Result<Interval> {
    counter.call("GET", "/interval", "", &json!(null)).await
}
