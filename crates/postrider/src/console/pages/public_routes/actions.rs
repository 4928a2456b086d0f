//! What is done with a route: switched on and off, deleted.

use askama::Template;
use uuid::Uuid;

use super::{PATH, address_of, client_of, found};
use crate::console::answer::{Answer, Fault};
use crate::console::flash::Flash;
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::public_routes::{self, RouteChange};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/settings/routes/{route}/active", Access::Platform, switch),
        Route::get("/settings/routes/{route}/delete", Access::Platform, ask),
        Route::post("/settings/routes/{route}/delete", Access::Platform, delete),
    ]
}

async fn switch(visit: Visit) -> Result<Answer, Fault> {
    let route = found(&visit)?;
    let is_on = visit.form.text("active") == "yes";
    let change = RouteChange { is_active: Some(is_on), ..RouteChange::default() };
    public_routes::change(visit.app(), &route.route_key, change, &visit.actor()).await?;
    let told = if is_on { "is active: it can be called" } else { "is off: every call is refused" };
    Ok(Answer::to(&address_of(route.id))?.saying(Flash::good(format!("{} {told}.", route.route_key))))
}

#[derive(Template)]
#[template(path = "route_delete.html")]
struct DeletePage {
    chrome: Chrome,
    id: Uuid,
    key: String,
    client: String,
    /// The hostname that ends with it.
    host: Option<String>,
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    let route = found(&visit)?;
    Answer::page(&DeletePage {
        chrome: Chrome::of(&visit, "Delete a public route"),
        id: route.id,
        key: route.route_key.clone(),
        client: client_of(&visit, &route).0,
        host: crate::registry::tenant_hostnames::host_of(visit.app(), &route),
    })
}

async fn delete(visit: Visit) -> Result<Answer, Fault> {
    let route = found(&visit)?;
    public_routes::delete(visit.app(), &route.route_key, &visit.actor()).await?;
    Ok(Answer::to(PATH)?.saying(Flash::good(format!("{} is deleted.", route.route_key))))
}
