//! One request passed on for a caller who waits for the whole reply: what a public route with a target does.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode};
use postrider_core::delivery::AttemptError;
use tokio::time::timeout;
use url::Url;

use super::connection::{Connection, Trouble};
use super::failure::Stage;
use super::fetch::whole;
use super::{Client, Progress, connect};

/// A whole reply, whatever its status.
#[derive(Clone, Debug)]
pub struct Forwarded {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Passes requests on; the client, or a script in tests.
pub trait Forward: std::fmt::Debug + Send + Sync + 'static {
    /// POSTs `body` to `url` and waits for the whole reply, at most `bytes_max` bytes, within `limit`. Redirects are not
    /// followed.
    fn forward<'a>(
        &'a self,
        url: &'a Url,
        headers: HeaderMap,
        body: Bytes,
        bytes_max: usize,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Forwarded, AttemptError>>;
}

impl Forward for Client {
    fn forward<'a>(
        &'a self,
        url: &'a Url,
        headers: HeaderMap,
        body: Bytes,
        bytes_max: usize,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Forwarded, AttemptError>> {
        async move {
            let mut progress = Progress::default();
            match timeout(limit, self.post(url, headers, body, bytes_max, &mut progress)).await {
                Ok(result) => result,
                Err(_) => Err(progress.stage.timed_out(limit)),
            }
        }
        .boxed()
    }
}

impl Client {
    async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        bytes_max: usize,
        progress: &mut Progress,
    ) -> Result<Forwarded, AttemptError> {
        let dialed = connect::dial(&self.settings, url, progress).await?;
        let mut connection = Connection::open(dialed).await?;
        progress.stage = Stage::Waiting;
        let proxy = self.settings.proxy.as_ref().filter(|_| self.proxy_resolves(url));
        let message = connection.message((Method::POST, url), body, headers, proxy).map_err(Trouble::into_error)?;
        let (head, body) = connection.send(message).await.map_err(Trouble::into_error)?.into_parts();
        progress.stage = Stage::Reading;
        Ok(Forwarded { status: head.status, headers: head.headers, body: whole(body, bytes_max).await? })
    }
}
