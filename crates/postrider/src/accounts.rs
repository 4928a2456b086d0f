//! Who people are: passwords, tries to log in, sessions, and links that are good for one use.
//!
//! What they may do is said by [`crate::auth`]; changes of users go through [`crate::registry::users`]. A session is shown
//! by a token of 256 random bits, of which the store has the SHA-256.

pub mod links;
pub mod login;
pub mod oidc;
pub mod password;
pub mod sessions;
pub mod throttle;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_core::signing::Secret;

use self::oidc::Oidc;
use self::password::Passwords;
use self::throttle::{SendsByHand, Throttle};
use crate::ambient::Ambient;
use crate::config::OidcOptions;
use crate::egress::{Fetch, Forward};

/// What logging in, and whoever is logged in, need and no request has.
#[derive(Debug)]
pub struct Accounts {
    pub passwords: Passwords,
    pub throttle: Throttle,
    pub sends_by_hand: SendsByHand,
    /// `None`: nobody logs in by an identity provider.
    pub oidc: Option<Oidc>,
}

impl Accounts {
    pub fn new(
        ambient: &Arc<dyn Ambient>,
        oidc: Option<&OidcOptions>,
        fetch: Arc<dyn Fetch>,
        forward: Arc<dyn Forward>,
    ) -> Accounts {
        Accounts {
            passwords: Passwords::new(ambient.clone()),
            throttle: Throttle::default(),
            sends_by_hand: SendsByHand::default(),
            oidc: oidc.map(|options| Oidc::new(options.clone(), fetch, forward)),
        }
    }
}

/// A token that nobody guesses.
pub(crate) fn random_token(ambient: &dyn Ambient) -> Secret {
    Secret::new(URL_SAFE_NO_PAD.encode(ambient.random::<32>()))
}
