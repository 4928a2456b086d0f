//! One GET of a small document that is wanted whole: a provider's certificate, an issuer's keys.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use postrider_core::delivery::{AttemptError, ErrorClass};
use tokio::time::timeout;
use url::Url;

use super::connection::{Connection, Trouble};
use super::failure::{self, Stage, failed};
use super::{Client, Progress, connect};

/// Gets documents; the client, or a script in tests.
pub trait Fetch: std::fmt::Debug + Send + Sync + 'static {
    /// The document at `url` whole, at most `bytes_max` bytes, within `limit`; the text says why not. Redirects are not
    /// followed.
    fn fetch<'a>(&'a self, url: &'a Url, bytes_max: usize, limit: Duration) -> BoxFuture<'a, Result<Bytes, String>>;
}

impl Fetch for Client {
    fn fetch<'a>(&'a self, url: &'a Url, bytes_max: usize, limit: Duration) -> BoxFuture<'a, Result<Bytes, String>> {
        let fetched = Client::fetch(self, url, bytes_max, limit);
        fetched.map(|result| result.map_err(|error| error.detail)).boxed()
    }
}

impl Client {
    /// The document at `url`, of at most `bytes_max` bytes, over a connection of its own.
    ///
    /// # Errors
    /// The policy refuses the URL or the address behind it; it takes longer than `limit`; the reply is larger, or
    /// anything but a 200 (a redirect is not followed).
    pub async fn fetch(&self, url: &Url, bytes_max: usize, limit: Duration) -> Result<Bytes, AttemptError> {
        let mut progress = Progress::default();
        match timeout(limit, self.get(url, bytes_max, &mut progress)).await {
            Ok(result) => result,
            Err(_) => Err(progress.stage.timed_out(limit)),
        }
    }

    async fn get(&self, url: &Url, bytes_max: usize, progress: &mut Progress) -> Result<Bytes, AttemptError> {
        let dialed = connect::dial(&self.settings, url, progress).await?;
        let mut connection = Connection::open(dialed).await?;
        progress.stage = Stage::Waiting;
        let own = HeaderValue::from_static(concat!("Postrider/", env!("CARGO_PKG_VERSION")));
        let headers = HeaderMap::from_iter([(header::USER_AGENT, own)]);
        let proxy = self.settings.proxy.as_ref().filter(|_| self.proxy_resolves(url));
        let message =
            connection.message((Method::GET, url), Bytes::new(), headers, proxy).map_err(Trouble::into_error)?;
        let (head, body) = connection.send(message).await.map_err(Trouble::into_error)?.into_parts();
        progress.stage = Stage::Reading;
        if head.status != StatusCode::OK {
            let status = head.status.as_u16();
            let other = || failed(ErrorClass::HttpStatus, format!("the answer was {status}, not 200"));
            return Err(failure::of_status(status).unwrap_or_else(other));
        }
        whole(body, bytes_max).await
    }
}

pub(super) async fn whole(mut body: Incoming, bytes_max: usize) -> Result<Bytes, AttemptError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| failure::of_body(&error))?.into_data() else { continue };
        if all.len() + data.len() > bytes_max {
            return Err(failed(ErrorClass::TooLarge, format!("the document has more than {bytes_max} bytes")));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}
