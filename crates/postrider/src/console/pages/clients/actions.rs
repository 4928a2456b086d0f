//! What is done with a client: its connection tested, frozen, unfrozen, removed.

use std::time::Instant;

use askama::Template;
use uuid::Uuid;

use super::{Dependencies, PATH, address_of, dependents, found};
use crate::console::answer::{Answer, Fault};
use crate::console::errors::sentence;
use crate::console::flash::Flash;
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::gateway::databases::Asked;
use crate::registry::clients::{self, ClientChange};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::post("/settings/clients/{client}/test", Access::Platform, test),
        Route::post("/settings/clients/{client}/freeze", Access::Platform, freeze),
        Route::get("/settings/clients/{client}/delete", Access::Platform, ask),
        Route::post("/settings/clients/{client}/delete", Access::Platform, delete),
    ]
}

async fn test(visit: Visit) -> Result<Answer, Fault> {
    let client = found(&visit)?;
    let databases = &visit.app().gateway.databases;
    let began = Instant::now();
    let flash = match databases.ask(&client).await {
        Ok(Asked::Answers) => {
            let took = began.elapsed().as_millis();
            let outbox = match databases.outbox(&client).await {
                Ok(None) => String::new(),
                Ok(Some(state)) => format!(" In its outbox {} changes wait.", state.waiting),
                Err(fault) => format!(" Its outbox could not be looked at: {}", sentence(&fault.message)),
            };
            Flash::good(format!("The database answers, after {took} ms.{outbox}"))
        }
        Ok(Asked::NotMadeYet) => Flash::good("The file is not there yet: the first operation makes it."),
        Err(why) => Flash::bad(format!("The test failed: {}", sentence(&why))),
    };
    Ok(Answer::to(&address_of(client.id))?.saying(flash))
}

async fn freeze(visit: Visit) -> Result<Answer, Fault> {
    let client = found(&visit)?;
    let freezes = visit.form.text("frozen") == "yes";
    let change = ClientChange { is_frozen: Some(freezes), ..ClientChange::default() };
    clients::change(visit.app(), &client.name, change, &visit.actor()).await?;
    let told = if freezes { "is frozen: no operation runs on it" } else { "is no longer frozen" };
    Ok(Answer::to(&address_of(client.id))?.saying(Flash::good(format!("{} {told}.", client.name))))
}

#[derive(Template)]
#[template(path = "client_delete.html")]
struct DeletePage {
    chrome: Chrome,
    id: Uuid,
    name: String,
    routes: Dependencies,
    keys: Dependencies,
    outbox: usize,
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    let client = found(&visit)?;
    let (routes, keys) = dependents(clients::dependents(visit.app(), &client));
    Answer::page(&DeletePage {
        chrome: Chrome::of(&visit, "Remove a client"),
        id: client.id,
        name: client.name.clone(),
        routes,
        keys,
        outbox: client.outbox_tables.len(),
    })
}

async fn delete(visit: Visit) -> Result<Answer, Fault> {
    let client = found(&visit)?;
    clients::delete(visit.app(), &client.name, &visit.actor()).await?;
    Ok(Answer::to(PATH)?.saying(Flash::good(format!("{} is removed.", client.name))))
}
