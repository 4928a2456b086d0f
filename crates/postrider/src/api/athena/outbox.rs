//! The outbox of a client: `/admin/clients/{name}/outbox`.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use postrider_gateway::identifier::Table;
use postrider_gateway::limits::OUTBOX_TABLES_MAX;
use postrider_gateway::{Fault, Uri, outbox};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::envelope::{self, reply};
use super::operations::fault;
use super::{body, unusable};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Returns, Route};
use crate::app::App;
use crate::registry::clients::{self as registry, Unusable};
use crate::store::ClientRecord;

const PATH: &str = "/admin/clients/{name}/outbox";
/// How long what waits may take to become events when an outbox is uninstalled, and how often it is looked at.
const LAST_CHANGES: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn routes() -> Vec<Route> {
    let admin = Access::AdminKey;
    let told = || Returns::One(envelope::of::<Outbox>());
    vec![
        Route::new(Method::GET, PATH, admin, show)
            .says("Show a client's outbox", "Its tables, and what waits in it if the database answers.")
            .success(200, "The outbox", told())
            .fails(&[Code::NotFound]),
        Route::new(Method::PUT, PATH, admin, install)
            .says(
                "Install a client's outbox",
                "From now on each committed change of these tables, by whatever program, becomes an event of the \
                 client's tenant; changes of other tables no longer do. Each table needs a primary key.",
            )
            .takes::<OutboxPut>()
            .success(200, "Installed", told())
            .fails(&[Code::Conflict, Code::NotFound, Code::Unavailable]),
        Route::new(Method::DELETE, PATH, admin, uninstall)
            .says(
                "Uninstall a client's outbox",
                "Changes are no longer written to it, and when nothing waits in it any more, it leaves nothing behind. \
                 What has not become an event after a few seconds is answered with 409 `outbox_not_empty`: it is still \
                 at work, and the call is to be made again, or with `discard`.",
            )
            .query::<Uninstall>()
            .success(200, "Uninstalled", told())
            .fails(&[Code::Conflict, Code::NotFound, Code::Unavailable]),
    ]
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaOutboxPut)]
struct OutboxPut {
    /// `orders` or `sales.orders`, 1 to 200.
    #[schema(required, min_items = 1, max_items = 200)]
    tables: Option<Vec<String>>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document")]
struct Uninstall {
    /// Remove what waits, too: those changes do not become events.
    discard: Option<bool>,
}

#[derive(Deserialize)]
struct UninstallQuery {
    #[serde(default)]
    discard: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaOutbox)]
struct Outbox {
    client_name: String,
    /// As they were installed, with their schemas; empty: there is no outbox.
    tables: Vec<String>,
    /// The tables whose changes the database writes down now; null: it does not answer.
    #[schema(required)]
    installed: Option<Vec<String>>,
    /// Changes that have not become events yet, counted up to 100,000; null: the database does not answer.
    #[schema(required)]
    rows_waiting: Option<i64>,
    /// Age of the oldest of them, seconds; null: nothing waits, or the database does not answer.
    #[schema(required)]
    oldest_seconds: Option<u64>,
    /// Why the database does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<String>,
}

/// What is known, and what the database says.
fn told(client: &ClientRecord, state: Result<outbox::State, Fault>) -> Outbox {
    let blank = Outbox {
        client_name: client.name.clone(),
        tables: client.outbox_tables.clone(),
        installed: None,
        rows_waiting: None,
        oldest_seconds: None,
        problem: None,
    };
    match state {
        Ok(state) => Outbox {
            installed: Some(state.tables),
            rows_waiting: Some(state.waiting),
            oldest_seconds: state.oldest.map(|age| age.as_secs()),
            ..blank
        },
        Err(fault) => Outbox { problem: Some(fault.message), ..blank },
    }
}

async fn answer(call: &Call, message: &str, client: &ClientRecord) -> Result<Reply> {
    let databases = &call.app().gateway.databases;
    let state = match databases.uri(client) {
        Ok(uri) => outbox::state(&uri, databases.settings()).await,
        Err(fault) => Err(fault),
    };
    reply(StatusCode::OK, message, &told(client, state))
}

fn named(call: &Call) -> Result<Arc<ClientRecord>> {
    Ok(registry::get(call.app(), call.path_text("name"))?)
}

async fn show(call: Call) -> Result<Reply> {
    let client = named(&call)?;
    answer(&call, "Outbox", &client).await
}

async fn install(mut call: Call) -> Result<Reply> {
    let wanted: OutboxPut = body(&mut call).await?;
    let client = named(&call)?;
    let tables = tables(wanted.tables)?;
    if !client.is_usable() {
        return Err(unusable(Unusable::Ineligible, &client.name));
    }
    let databases = &call.app().gateway.databases;
    let uri = address(&call, &client)?;
    check_owner(call.app(), &client, &uri)?;
    let names = outbox::install_exactly(&uri, databases.settings(), &tables).await.map_err(fault)?;
    let client = registry::set_outbox(call.app(), &client.name, names, &call.actor()).await?;
    answer(&call, "Installed outbox", &client).await
}

/// No other client may have the outbox of this database: only one of them would get the changes.
fn check_owner(app: &App, client: &ClientRecord, uri: &Uri) -> Result<()> {
    let has_it = |other: &Arc<ClientRecord>| {
        let databases = &app.gateway.databases;
        other.id != client.id
            && !other.outbox_tables.is_empty()
            && databases.uri(other).is_ok_and(|other| other.is_same_database(uri))
    };
    let Some(other) = app.catalog.clients().into_iter().find(has_it) else { return Ok(()) };
    let message = format!("the client {} has the outbox of this database, and there is but one", other.name);
    Err(ApiError::new(Code::Conflict, message).told("outbox_taken", "Conflict"))
}

fn tables(names: Option<Vec<String>>) -> Result<Vec<Table>> {
    let names = names.ok_or_else(|| ApiError::missing("tables"))?;
    if names.is_empty() || names.len() > OUTBOX_TABLES_MAX {
        return Err(ApiError::field("tables", format!("has 1 to {OUTBOX_TABLES_MAX} tables")));
    }
    let read = |(at, name): (usize, &String)| {
        Table::parse(name, None).map_err(|wrong| fault(wrong.at(format!("tables[{at}]"))))
    };
    names.iter().enumerate().map(read).collect()
}

/// Where the client's PostgreSQL is.
fn address(call: &Call, client: &ClientRecord) -> Result<Uri> {
    let uri = call.app().gateway.databases.uri(client).map_err(fault)?;
    let unsupported =
        |why: Fault| ApiError::field("client_name", why.message).told("outbox_unsupported", "Invalid request");
    outbox::check(&uri).map_err(unsupported)?;
    Ok(uri)
}

async fn uninstall(call: Call) -> Result<Reply> {
    let UninstallQuery { discard } = call.query()?;
    let client = named(&call)?;
    let uri = address(&call, &client)?;
    let is_ours = !client.outbox_tables.is_empty();
    if !is_ours {
        // It may still remove what is left of a former one.
        check_owner(call.app(), &client, &uri)?;
    }
    let settings = call.app().gateway.databases.settings();
    let patience = if is_ours && client.is_usable() { LAST_CHANGES } else { Duration::ZERO };
    let deadline = tokio::time::Instant::now() + patience;
    while !outbox::uninstall(&uri, settings, discard).await.map_err(fault)? {
        if tokio::time::Instant::now() >= deadline {
            let message = "changes still wait in the outbox: try again when they have become events, or discard them";
            return Err(ApiError::new(Code::Conflict, message).told("outbox_not_empty", "Conflict"));
        }
        tokio::time::sleep(LOOK).await;
    }
    let client = registry::set_outbox(call.app(), &client.name, Vec::new(), &call.actor()).await?;
    answer(&call, "Uninstalled outbox", &client).await
}
