//! What a row's menu does: test, toggle, delete, retry.

use askama::Template;
use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::webhook::WebhookStatus;

use super::{found, name_of, path, row_of};
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::flash::Flash;
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::pipeline::{ByHand, PublishError};
use crate::registry::webhooks;

pub(super) fn routes() -> Vec<Route> {
    let write = Access::Needs(Permission::WebhooksWrite);
    vec![
        Route::post("/settings/webhooks/{webhook}/test", Access::Needs(Permission::WebhooksTest), test),
        Route::post("/settings/webhooks/{webhook}/toggle", write, toggle),
        Route::get("/settings/webhooks/{webhook}/delete", write, ask),
        Route::post("/settings/webhooks/{webhook}/delete", write, delete),
        Route::post(
            "/settings/webhooks/{webhook}/deliveries/{delivery}/retry",
            Access::Needs(Permission::DeliveriesWrite),
            retry,
        ),
    ]
}

/// The list with that row open.
fn opened(visit: &Visit, id: WebhookId) -> String {
    format!("{}?open={id}#{id}", path(visit))
}

async fn test(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    if record.spec.url.is_empty() {
        return Err(Fault::Conflict("This webhook only receives: there is no URL to send a test to.".to_owned()));
    }
    visit.send_by_hand()?;
    let report = webhooks::test(visit.app(), &record, "webhook.ping").await.map_err(unpublished)?;
    let attempt = report.attempt;
    let status = attempt.response.as_ref().map(|response| response.status);
    let flash = match (attempt.succeeded(), status, &attempt.error) {
        (true, Some(status), _) => Flash::good(format!("The test arrived: {status} in {} ms.", attempt.duration_ms)),
        (_, _, Some(error)) => Flash::bad(format!("The test failed: {}.", error.detail)),
        (_, Some(status), None) => Flash::bad(format!("The test failed: the endpoint answered {status}.")),
        (_, None, None) => Flash::bad("The test failed."),
    };
    Ok(Answer::to(&opened(&visit, record.id))?.saying(flash))
}

fn unpublished(error: PublishError) -> Fault {
    match error {
        PublishError::UnknownTenant => Fault::NotFound,
        PublishError::Store(error) => error.into(),
        other => Fault::Unavailable(other.into()),
    }
}

async fn toggle(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let is_on = visit.form.text("active") == "yes";
    let status = if is_on { WebhookStatus::Active } else { WebhookStatus::Disabled };
    webhooks::toggle(visit.app(), visit.scope(), record.id, status, &visit.actor()).await?;
    let told = if is_on { "is active" } else { "is off: nothing is sent to it" };
    let flash = Flash::good(format!("{} {told}.", name_of(&record)));
    Ok(Answer::to(&row_of(&visit, record.id))?.saying(flash))
}

#[derive(Template)]
#[template(path = "webhook_delete.html")]
struct DeletePage {
    chrome: Chrome,
    id: WebhookId,
    name: String,
    url: String,
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let chrome = Chrome::of(&visit, "Delete a webhook");
    Answer::page(&DeletePage { chrome, id: record.id, name: name_of(&record), url: record.spec.url.clone() })
}

async fn delete(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    webhooks::delete(visit.app(), visit.scope(), record.id, &visit.actor()).await?;
    Ok(Answer::to(&path(&visit))?.saying(Flash::good(format!("{} is deleted.", name_of(&record)))))
}

async fn retry(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let id = DeliveryId(visit.id("delivery")?);
    let delivery = visit.app().store.delivery(visit.scope(), id).await?;
    delivery.filter(|delivery| delivery.webhook_id == record.id).ok_or(Fault::NotFound)?;
    visit.send_by_hand()?;
    let flash = match visit.app().engine.retry(visit.scope(), id, &visit.actor()).await? {
        ByHand::Done => Flash::good("It is tried again now."),
        ByHand::InFlight => Flash::bad("A request for it is under way."),
        ByHand::AlreadySo => Flash::bad("It is due already."),
        ByHand::NotFound => return Err(Fault::NotFound),
    };
    Ok(Answer::to(&opened(&visit, record.id))?.saying(flash))
}
