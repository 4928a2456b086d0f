//! The one way out: every outbound request passes the egress policy here, at connect, on the address that is dialled.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use postrider_core::delivery::{AttemptError, Response};
use postrider_core::ids::{DeliveryId, WebhookId};
use url::Url;

/// One request to one endpoint. Always a POST.
#[derive(Clone, Debug)]
pub struct Request {
    pub webhook_id: WebhookId,
    pub delivery_id: DeliveryId,
    /// 1-based.
    pub attempt: u32,
    pub url: std::sync::Arc<Url>,
    pub headers: http::HeaderMap,
    pub body: Bytes,
    /// From start to the last byte of the reply that is kept.
    pub timeout: Duration,
}

/// What came of a request. A remote's failure is data, not an error.
#[derive(Clone, Debug)]
pub struct Sent {
    pub response: Option<Response>,
    /// Set for everything but a 2xx.
    pub error: Option<AttemptError>,
    pub remote_address: Option<IpAddr>,
    pub duration: Duration,
}

/// Something that carries requests to endpoints: the client, a listener, or a scripted receiver in tests.
pub trait Transport: Send + Sync + 'static {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent>;
}
