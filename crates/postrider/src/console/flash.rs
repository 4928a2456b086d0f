//! What one page leaves for the next to say: that something was done, and what is shown this once.
//!
//! It travels in a cookie, sealed and tied to the session: a secret in it is in no address, no history and no page that can
//! be asked for again.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::auth::hash;
use crate::sealing::Sealer;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tone {
    Good,
    /// It was done, but there is something to mind.
    Warning,
    Bad,
}

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Warning => "warning",
            Tone::Bad => "bad",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flash {
    pub tone: Tone,
    pub text: String,
    /// Shown this once by the page that knows its kind.
    pub reveal: Option<Reveal>,
}

/// A secret with what it is for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reveal {
    /// Which page's it is: `api_key`, `invitation`, `webhook`…
    pub kind: String,
    /// What it belongs to, as people know it.
    pub about: String,
    pub secret: String,
}

impl std::fmt::Debug for Reveal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reveal").field("kind", &self.kind).field("about", &self.about).finish_non_exhaustive()
    }
}

fn purpose(secret: &str) -> String {
    format!("flash:{}", hex::encode(hash(secret.as_bytes())))
}

impl Flash {
    pub(super) fn good(text: impl Into<String>) -> Flash {
        Flash { tone: Tone::Good, text: text.into(), reveal: None }
    }

    pub(super) fn warning(text: impl Into<String>) -> Flash {
        Flash { tone: Tone::Warning, text: text.into(), reveal: None }
    }

    pub(super) fn bad(text: impl Into<String>) -> Flash {
        Flash { tone: Tone::Bad, text: text.into(), reveal: None }
    }

    pub(super) fn revealing(self, kind: &str, about: impl Into<String>, secret: impl Into<String>) -> Flash {
        let reveal = Reveal { kind: kind.to_owned(), about: about.into(), secret: secret.into() };
        Flash { reveal: Some(reveal), ..self }
    }

    pub(super) fn sealed(&self, sealer: &Sealer, secret: &str) -> String {
        let plain = serde_json::to_vec(self).expect("a few strings are plain JSON");
        URL_SAFE_NO_PAD.encode(sealer.seal(&purpose(secret), &plain))
    }

    /// `None`: it is another's, or damaged.
    pub(super) fn opened(sealer: &Sealer, secret: &str, cookie: &str) -> Option<Flash> {
        let sealed = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        serde_json::from_slice(&sealer.open(&purpose(secret), &sealed).ok()?).ok()
    }
}
