//! The public keys of a webhook that signs with ed25519, for its receivers.
//!
//! Open, since receivers have no credential of ours, and a public key is public. What must not be learned is which webhooks
//! exist: an id that is unknown, one of a webhook with a shared secret and one that is no id get the same answer. Ids have
//! 122 random bits, so nobody comes upon one by trying.

use axum::http::{HeaderValue, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_core::signing::PublicKey;
use ring::digest;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Result};
use crate::registry::webhooks as registry;

/// Receivers may keep the keys for so long, which is far less than a rotation lasts.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

#[derive(Serialize, ToSchema)]
pub(super) struct WebhookKeys {
    keys: Vec<WebhookKey>,
}

/// RFC 8037.
#[derive(Serialize, ToSchema)]
struct WebhookKey {
    #[schema(example = "OKP")]
    kty: &'static str,
    #[schema(example = "Ed25519")]
    crv: &'static str,
    /// The key in base64url.
    #[schema(example = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")]
    x: String,
    #[schema(example = "EdDSA")]
    alg: &'static str,
    #[serde(rename = "use")]
    #[schema(example = "sig")]
    purpose: &'static str,
    /// The key's thumbprint (RFC 7638).
    #[schema(example = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")]
    kid: String,
}

impl From<PublicKey> for WebhookKey {
    fn from(key: PublicKey) -> WebhookKey {
        let x = URL_SAFE_NO_PAD.encode(key.0);
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, members.as_bytes()));
        WebhookKey { kty: "OKP", crv: "Ed25519", x, alg: "EdDSA", purpose: "sig", kid }
    }
}

pub(super) async fn get(call: Call) -> Result<Reply> {
    let unknown = || ApiError::not_found("key set");
    let id = call.path_text("id").parse().map_err(|_| unknown())?;
    let keys: Vec<WebhookKey> = registry::public_keys(call.app(), id)?.into_iter().map(WebhookKey::from).collect();
    if keys.is_empty() {
        return Err(unknown());
    }
    Ok(Reply::json(StatusCode::OK, &WebhookKeys { keys })?.header(header::CACHE_CONTROL, CACHE))
}
