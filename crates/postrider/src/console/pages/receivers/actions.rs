//! What is done with a receiver: paused, switched off, tested, verified again, deleted.

use askama::Template;
use postrider_core::ids::WebhookId;
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;
use serde_json::json;

use super::{PATH, address, found, name_of};
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::sentence;
use crate::console::flash::Flash;
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::inbound::{self, Failure, Receiver};
use crate::pipeline::PublishError;
use crate::registry::webhooks;
use crate::store::WebhookRecord;

pub(super) fn routes() -> Vec<Route> {
    let write = Access::Needs(Permission::WebhooksWrite);
    vec![
        Route::post("/settings/receivers/{receiver}/state", write, set_state),
        Route::post("/settings/receivers/{receiver}/test", Access::Needs(Permission::WebhooksTest), test),
        Route::post("/settings/receivers/{receiver}/reverify", Access::Needs(Permission::EventsWrite), reverify),
        Route::get("/settings/receivers/{receiver}/delete", write, ask),
        Route::post("/settings/receivers/{receiver}/delete", write, delete),
    ]
}

/// Why something did not become an event.
pub(super) fn unpublished(error: PublishError) -> Fault {
    match error {
        PublishError::UnknownTenant => Fault::NotFound,
        PublishError::Store(error) => error.into(),
        PublishError::OverQuota { message, .. } => Fault::Conflict(sentence(&message)),
        other => Fault::Unavailable(other.into()),
    }
}

async fn set_state(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let (status, told) = match visit.form.text("state") {
        "active" => (WebhookStatus::Active, "is active"),
        "paused" => (WebhookStatus::Paused, "is paused: what comes in waits"),
        "disabled" => (WebhookStatus::Disabled, "is off: what comes in goes nowhere"),
        _ => return Err(Fault::Unreadable("The form could not be read.")),
    };
    webhooks::toggle(visit.app(), visit.scope(), record.id, status, &visit.actor()).await?;
    Ok(Answer::to(&address(record.id))?.saying(Flash::good(format!("{} {told}.", name_of(&record)))))
}

/// What a receiver verifies with, opened.
fn opened(visit: &Visit, record: &std::sync::Arc<WebhookRecord>) -> Result<std::sync::Arc<Receiver>, Fault> {
    let app = visit.app();
    app.inbound.receiver(app, record).map_err(Fault::Internal)?.ok_or(Fault::NotFound)
}

async fn test(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let receiver = opened(&visit, &record)?;
    visit.send_by_hand()?;
    let data = json!({ "message": "Hello from Postrider" });
    let sent = inbound::send_test(visit.app(), &receiver, None, data).await.map_err(|failure| match failure {
        Failure::Publish(error) => unpublished(error),
        Failure::Registry(rejection) => rejection.into(),
    })?;
    let flash = Flash::good("The test came in; below is what became of it.");
    Ok(Answer::to(&format!("{}/requests/{sent}", address(record.id)))?.saying(flash))
}

async fn reverify(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let receiver = opened(&visit, &record)?;
    let since: Option<UnixMs> = visit.form.given("since").and_then(|since| since.parse().ok());
    let done = inbound::reverify(visit.app(), &receiver, since, &visit.actor()).await.map_err(unpublished)?;
    let repeats =
        if done.repeats > 0 { format!(", {} repeat what came meanwhile", done.repeats) } else { String::new() };
    let told = format!(
        "{} refused requests were verified again: {} are believed now and forwarded{repeats}.",
        done.checked, done.released
    );
    let to = match done.next_since {
        // There are more than one call looks at.
        Some(next) => {
            let query = serde_urlencoded::to_string([("since", next.to_string())]).unwrap_or_default();
            format!("{}?{query}", address(record.id))
        }
        None => address(record.id),
    };
    Ok(Answer::to(&to)?.saying(Flash::good(told)))
}

#[derive(Template)]
#[template(path = "receiver_delete.html")]
struct DeletePage {
    chrome: Chrome,
    id: WebhookId,
    name: String,
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let chrome = Chrome::of(&visit, "Delete a receiver");
    Answer::page(&DeletePage { chrome, id: record.id, name: name_of(&record) })
}

async fn delete(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    webhooks::delete(visit.app(), visit.scope(), record.id, &visit.actor()).await?;
    Ok(Answer::to(PATH)?.saying(Flash::good(format!("{} is deleted.", name_of(&record)))))
}
