//! The signing secret: shown once, with the lines that verify with it; rotated, and the rotation finished.

use askama::Template;
use postrider_core::dialect::Dialect;
use postrider_core::ids::WebhookId;

use super::{found, name_of, path, row_of};
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::flash::Flash;
use crate::console::kit::{self, Html};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::webhooks::{self, Rotation};

/// What a flash with a webhook's secret is called.
pub(super) const REVEAL: &str = "webhook_secret";

pub(super) fn routes() -> Vec<Route> {
    let write = Access::Needs(Permission::WebhooksWrite);
    vec![
        Route::get("/settings/webhooks/{webhook}/secret", write, show),
        Route::get("/settings/webhooks/{webhook}/rotate", write, ask),
        Route::post("/settings/webhooks/{webhook}/rotate", write, rotate),
        Route::post("/settings/webhooks/{webhook}/finish-rotation", write, finish),
    ]
}

/// To where the secret is shown.
pub(super) fn revealed(visit: &Visit, id: WebhookId, told: &str, secret: &str) -> Result<Answer, Fault> {
    let flash = Flash::good(told).revealing(REVEAL, id.to_string(), secret);
    Ok(Answer::to(&format!("{}/{id}/secret", path(visit)))?.saying(flash))
}

/// Lines that verify a delivery, in the way of the dialect.
fn snippet(dialect: Dialect) -> Option<(&'static str, &'static str)> {
    match dialect {
        Dialect::Athenty => Some((
            "Node.js",
            "import crypto from 'crypto'\n\n// The raw body: parsing it as JSON first changes its bytes.\n\
             const sig = req.headers['x-athenty-signature']\nconst expected = crypto\n  \
             .createHmac('sha256', SECRET)\n  .update(req.rawBody)\n  .digest('hex')\n\
             if (sig !== expected) throw new Error('invalid signature')",
        )),
        Dialect::Standard => Some((
            "Node.js",
            "import { Webhook } from 'standardwebhooks'\n\n// The raw body: parsing it as JSON first changes its bytes.\n\
             const payload = new Webhook(SECRET).verify(req.rawBody, req.headers)",
        )),
        _ => None,
    }
}

#[derive(Template)]
#[template(path = "webhook_secret.html")]
struct SecretPage {
    chrome: Chrome,
    name: String,
    secret: Html,
    snippet: Option<Html>,
    dialect: &'static str,
    is_new: bool,
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let reveal = visit.revealed(REVEAL).filter(|reveal| reveal.about == record.id.to_string());
    let Some(reveal) = reveal else {
        return Answer::to(&row_of(&visit, record.id));
    };
    let secrets = webhooks::own_secrets(visit.app(), &record)?;
    Answer::page(&SecretPage {
        name: name_of(&record),
        secret: kit::copyable(&reveal.secret, "the secret"),
        snippet: snippet(record.spec.dialect).map(|(label, lines)| kit::code(lines, label)),
        dialect: super::dialect_label(record.spec.dialect),
        is_new: secrets.previous.is_none(),
        chrome: Chrome::of(&visit, "Signing secret"),
    })
}

#[derive(Template)]
#[template(path = "webhook_rotate.html")]
struct RotatePage {
    chrome: Chrome,
    id: WebhookId,
    name: String,
    hours: u64,
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let hours = record.spec.dialect.rotation_overlap().as_secs() / 3600;
    let chrome = Chrome::of(&visit, "Rotate the signing secret");
    Answer::page(&RotatePage { chrome, id: record.id, name: name_of(&record), hours })
}

async fn rotate(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let (actor, rotation) = (visit.actor(), Rotation::default());
    let (secret, _) = webhooks::rotate_secret(visit.app(), visit.scope(), record.id, rotation, &actor).await?;
    revealed(&visit, record.id, "The secret is rotated.", secret.reveal())
}

async fn finish(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    webhooks::finish_rotation(visit.app(), visit.scope(), record.id, &visit.actor()).await?;
    let flash = Flash::good("The rotation is finished: the new secret signs alone.");
    Ok(Answer::to(&row_of(&visit, record.id))?.saying(flash))
}
