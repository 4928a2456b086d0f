//! Developers' machines behind `postrider listen`: deliveries of their temporary webhooks go down an event stream.

use futures_util::future::BoxFuture;

use crate::egress::{Request, Sent, Transport};

/// The connected listeners of this process.
#[derive(Debug, Default)]
pub struct Listeners {}

impl Transport for Listeners {
    fn send(&self, request: Request) -> BoxFuture<'_, Sent> {
        let _ = request;
        unimplemented!("api")
    }
}
