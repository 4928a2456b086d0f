//! The receiving side of a webhook on the wire.

use std::net::IpAddr;

use ipnet::IpNet;
use postrider_core::ids::WebhookId;
use postrider_core::inbound::Provider;
use postrider_core::signing::Secret;
use postrider_core::webhook::{RateLimit, ReceiverAnswer, ReceiverSpec};
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::ToSchema;

use super::RateLimitShape;
use crate::registry::Patch;
use crate::registry::webhooks::{ReceiverChange, receive_url};

/// What a webhook that receives knows of its sender. Absent fields stay as they are; null resets a field.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReceiverFields)]
pub(super) struct ReceiverFields {
    /// Who sends: `stripe`, `github`, … as listed in docs/receiving.md; anything else is verified as `custom`. Needed for a
    /// new receiver; null: `custom`.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 100)]
    source: Patch<String>,
    /// What the provider signs with, if it is not the webhook's own secret. A key that it shares with us becomes the
    /// own secret as well, where the dialect can sign with it; a public key or an id only verifies. Null: the own secret
    /// alone verifies.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    secret: Patch<Secret>,
    /// Several that are active at once, after `secret` if both are given; the first one signs.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 16)]
    secrets: Patch<Vec<Secret>>,
    /// The token that some providers (`meta`, `ebay`) have you invent for their handshake.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 256)]
    verify_token: Patch<Secret>,
    /// The URL as the provider was told it, if it is not the receive URL: some providers sign it.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 2048)]
    url: Patch<String>,
    /// From where requests are taken, as addresses or networks; empty: from anywhere.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    allowed_addresses: Patch<Vec<Network>>,
    /// Requests beyond it are answered 429 and not recorded.
    #[serde(default)]
    #[schema(value_type = Option<RateLimitShape>)]
    rate_limit: Patch<RateLimitShape>,
    /// What accepted requests are answered; null: what the provider wants, else 202.
    #[serde(default)]
    #[schema(value_type = Option<AnswerShape>)]
    answer: Patch<AnswerShape>,
}

/// An address or a network.
#[derive(Clone, Copy)]
pub(super) struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse::<IpNet>().or_else(|_| address());
        network.map(|network| Network(network.trunc())).map_err(|_| de::Error::custom("not an address or network"))
    }
}

/// An answer of your own.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ReceiverAnswer)]
pub(super) struct AnswerShape {
    #[schema(minimum = 200, maximum = 299)]
    status: u16,
    #[serde(default)]
    #[schema(max_length = 256)]
    content_type: Option<String>,
    #[serde(default)]
    #[schema(max_length = 16384)]
    body: String,
}

impl ReceiverFields {
    pub(super) fn into_change(self) -> ReceiverChange {
        ReceiverChange {
            source: self.source,
            secrets: ReceiverChange::secrets(self.secret, self.secrets),
            verify_token: self.verify_token,
            url: self.url,
            allowed_addresses: self.allowed_addresses.map(|all| all.into_iter().map(|network| network.0).collect()),
            rate_limit: self.rate_limit.map(|limit| RateLimit { per_second: limit.per_second }),
            answer: self.answer.map(|answer| ReceiverAnswer {
                status: answer.status,
                content_type: answer.content_type,
                body: answer.body,
            }),
        }
    }
}

/// The receiving side of a webhook, without its secrets.
#[derive(Serialize, ToSchema)]
pub(super) struct Receiver {
    source: String,
    /// How requests are verified: the provider that `source` names, else `custom`.
    provider: &'static str,
    /// Where the provider sends to.
    #[schema(example = "https://hooks.example.com/api/v1/webhooks/receive/7d0c2f8e-4f8f-4e0f-9d5a-b9b7a3f3a1c7")]
    receive_url: String,
    /// The URL that is taken for signed, where the provider signs it.
    url: String,
    allowed_addresses: Vec<String>,
    rate_limit: Option<RateLimitShape>,
    answer: Option<AnswerShape>,
}

impl Receiver {
    pub(super) fn of(spec: &ReceiverSpec, webhook: WebhookId, origin: &str) -> Receiver {
        Receiver {
            provider: Provider::find(&spec.source).name,
            source: spec.source.clone(),
            receive_url: receive_url(origin, webhook),
            url: spec.url.clone(),
            allowed_addresses: spec.allowed_addresses.iter().map(ToString::to_string).collect(),
            rate_limit: spec.rate_limit.map(|limit| RateLimitShape { per_second: limit.per_second }),
            answer: spec.answer.as_ref().map(|answer| AnswerShape {
                status: answer.status,
                content_type: answer.content_type.clone(),
                body: answer.body.clone(),
            }),
        }
    }
}
