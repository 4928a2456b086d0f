//! A tenant made, changed, deleted: by platform admins.

use std::sync::Arc;

use askama::Template;
use postrider_core::dialect::Dialect;
use postrider_core::limits::NAME_CHARS_MAX;

use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::{Choice, Field};
use crate::console::layout::Chrome;
use crate::console::pages::webhooks::dialect_label;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::Patch;
use crate::registry::tenants::{self, SettingsChange, TenantChange};
use crate::store::{TenantRecord, Validation};

const PATH: &str = "/settings/tenants";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/settings/tenants/new", Access::Platform, new),
        Route::post("/settings/tenants/new", Access::Platform, create),
        Route::get("/settings/tenants/{tenant}/edit", Access::Platform, edit),
        Route::post("/settings/tenants/{tenant}/edit", Access::Platform, change),
        Route::get("/settings/tenants/{tenant}/delete", Access::Platform, ask),
        Route::post("/settings/tenants/{tenant}/delete", Access::Platform, delete),
    ]
}

fn found(visit: &Visit) -> Result<Arc<TenantRecord>, Fault> {
    Ok(tenants::get(visit.app(), visit.id("tenant")?)?)
}

#[derive(Template)]
#[template(path = "tenant_edit.html")]
struct Page {
    chrome: Chrome,
    title: String,
    action: String,
    id: Option<String>,
    problem: Option<String>,
    name: Field,
    external_id: Field,
    dialect: Field,
    validation: Field,
}

const VALIDATIONS: [(Validation, &str, &str); 3] = [
    (Validation::Off, "off", "Events are taken as they come"),
    (Validation::Warn, "warn", "Events that do not fit their schema are taken, and the answer says so"),
    (Validation::Enforce, "enforce", "Events that do not fit their schema are refused"),
];

fn page(visit: &Visit, record: Option<&TenantRecord>, errors: &Errors) -> Page {
    let is_sent = visit.parts.method == axum::http::Method::POST;
    let sent = |name: &str, there: Option<String>| match is_sent {
        true => visit.form.text(name).to_owned(),
        false => there.unwrap_or_default(),
    };
    let dialect = sent("dialect", record.map(|record| record.dialect.name().to_owned()));
    let dialects = Dialect::ALL.map(|one| Choice {
        value: one.name().to_owned(),
        label: dialect_label(one).to_owned(),
        hint: String::new(),
        chosen: one.name() == dialect,
    });
    let there = record.map_or(Validation::Off, |record| record.settings.validation);
    let there = VALIDATIONS.into_iter().find(|(one, ..)| *one == there).map(|(_, name, _)| name.to_owned());
    let validation = sent("validation", there);
    let validations = VALIDATIONS.map(|(_, name, label)| Choice {
        value: name.to_owned(),
        label: label.to_owned(),
        hint: String::new(),
        chosen: name == validation,
    });
    let title = record.map_or_else(|| "New tenant".to_owned(), |record| format!("Edit {}", record.name));
    Page {
        action: record.map_or_else(|| format!("{PATH}/new"), |record| format!("{PATH}/{}/edit", record.id)),
        id: record.map(|record| record.id.to_string()),
        problem: errors.beside(&["name", "external_id", "dialect", "validation"]).map(str::to_owned),
        name: Field::line("name", "Name")
            .value(sent("name", record.map(|record| record.name.clone())))
            .hint("A customer of yours, or yourself.")
            .error(errors.at("name"))
            .longest(NAME_CHARS_MAX)
            .required()
            .focused(),
        external_id: Field::line("external_id", "Your id for it")
            .value(sent("external_id", record.and_then(|record| record.external_id.clone())))
            .hint("Unique in the deployment.")
            .error(errors.at("external_id"))
            .longest(NAME_CHARS_MAX),
        dialect: Field::select("dialect", "Dialect of new webhooks", dialects.into()).error(errors.at("dialect")),
        validation: Field::select("validation", "Schemas", validations.into()).error(errors.at("validation")),
        chrome: Chrome::of(visit, &*title),
        title,
    }
}

fn wanted(visit: &Visit) -> TenantChange {
    let validation = VALIDATIONS.into_iter().find(|(_, name, _)| *name == visit.form.text("validation"));
    let settings = validation
        .map(|(validation, ..)| SettingsChange { validation: Patch::Set(validation), ..SettingsChange::default() });
    TenantChange {
        name: Patch::Set(visit.form.text("name").trim().to_owned()),
        partner_id: Patch::Absent,
        external_id: visit.form.given("external_id").map_or(Patch::Null, |id| Patch::Set(id.to_owned())),
        dialect: visit.form.text("dialect").parse().map_or(Patch::Absent, Patch::Set),
        settings: settings.map_or(Patch::Absent, Patch::Set),
    }
}

async fn new(visit: Visit) -> Result<Answer, Fault> {
    Answer::page(&page(&visit, None, &Errors::none()))
}

async fn create(visit: Visit) -> Result<Answer, Fault> {
    match tenants::create(visit.app(), wanted(&visit), &visit.actor()).await {
        Ok(tenant) => Ok(Answer::to(PATH)?.saying(Flash::good(format!("{} is there.", tenant.name)))),
        Err(rejection) => Answer::unfit(&page(&visit, None, &Errors::of(rejection)?)),
    }
}

async fn edit(visit: Visit) -> Result<Answer, Fault> {
    Answer::page(&page(&visit, Some(&*found(&visit)?), &Errors::none()))
}

async fn change(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    match tenants::change(visit.app(), record.id, wanted(&visit), &visit.actor()).await {
        Ok(tenant) => Ok(Answer::to(PATH)?.saying(Flash::good(format!("{} is saved.", tenant.name)))),
        Err(rejection) => Answer::unfit(&page(&visit, Some(&record), &Errors::of(rejection)?)),
    }
}

#[derive(Template)]
#[template(path = "tenant_delete.html")]
struct DeletePage {
    chrome: Chrome,
    id: String,
    name: String,
    webhooks: usize,
    keys: usize,
    confirm: Field,
}

fn delete_page(visit: &Visit, record: &TenantRecord, errors: &Errors) -> DeletePage {
    let catalog = &visit.app().catalog;
    DeletePage {
        id: record.id.to_string(),
        name: record.name.clone(),
        webhooks: catalog.tenant(record.id).map_or(0, |tenant| tenant.webhooks.len()),
        keys: catalog.keys(Some(record.id)).len(),
        confirm: Field::line("confirm", "Its name")
            .hint("To be sure: write the name of the tenant.")
            .error(errors.at("confirm"))
            .required(),
        chrome: Chrome::of(visit, "Delete a tenant"),
    }
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    Answer::page(&delete_page(&visit, &*found(&visit)?, &Errors::none()))
}

async fn delete(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    if visit.form.text("confirm").trim() != record.name.trim() {
        let errors = Errors::one("confirm", "That is not its name. Nothing was deleted.");
        return Answer::unfit(&delete_page(&visit, &record, &errors));
    }
    tenants::delete(visit.app(), record.id, &visit.actor()).await?;
    Ok(Answer::to(PATH)?.saying(Flash::good(format!("{} is deleted.", record.name))))
}
