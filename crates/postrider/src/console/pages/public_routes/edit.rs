//! The contract editor: as a form with a field for everything, or as JSON; with what it opens, before it is saved.

use std::collections::BTreeSet;

use askama::Template;
use postrider_core::limits::ROUTE_KEY_BYTES_MAX;
use postrider_gateway::contract::Contract;
use postrider_gateway::operation::Kind;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::contract::Draft;
use super::fields::{Part, parts};
use super::report::Report;
use super::{PATH, address_of, client_of, found};
use crate::console::answer::{Answer, Fault};
use crate::console::errors::{Errors, sentence};
use crate::console::flash::Flash;
use crate::console::kit::{Choice, Field};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::{Form, Visit};
use crate::gateway::public::{self, CONTRACT, CORS};
use crate::registry::clients::shown_metadata;
use crate::registry::public_routes::{self, NewRoute, OPERATIONS, RouteChange};
use crate::registry::{self, Rejection};
use crate::store::PublicRouteRecord;

/// A contract with more tables is edited as JSON: a page stays small.
const TABLES_IN_FORM_MAX: usize = 20;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/settings/routes/new", Access::Platform, new),
        Route::post("/settings/routes/new", Access::Platform, create),
        Route::get("/settings/routes/{route}/edit", Access::Platform, edit),
        Route::post("/settings/routes/{route}/edit", Access::Platform, change),
    ]
}

/// How the contract is written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Written {
    /// There is none: gateway keys alone decide.
    Not,
    Form(Draft),
    Json(String),
}

/// What is in the form: what was sent, or else what there is.
struct Filled {
    key: String,
    client: String,
    ops: BTreeSet<String>,
    target: String,
    is_active: bool,
    origins: String,
    /// Metadata beside contract and origins, with passwords masked.
    others: String,
    written: Written,
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn others(metadata: &Map<String, Value>) -> Map<String, Value> {
    metadata
        .iter()
        .filter(|(name, _)| *name != CONTRACT && *name != CORS)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Metadata beside contract and origins, as it is shown.
fn shown_others(metadata: &Map<String, Value>) -> String {
    let others = others(metadata);
    if others.is_empty() { String::new() } else { pretty(&shown_metadata(&others)) }
}

/// A contract as a form, unless it is too large for one, or says what it has no field for.
fn written(contract: Option<&Value>) -> Written {
    match contract.filter(|contract| !contract.is_null()) {
        None => Written::Not,
        Some(contract) => match Draft::of_json(contract).filter(|draft| draft.tables() <= TABLES_IN_FORM_MAX) {
            Some(draft) => Written::Form(draft),
            None => Written::Json(pretty(contract)),
        },
    }
}

impl Filled {
    fn blank(visit: &Visit) -> Filled {
        let client: Option<Uuid> = visit.query::<NewQuery>().client.parse().ok();
        let client = client.and_then(|id| visit.app().catalog.client(id)).filter(|client| client.deleted_at.is_none());
        Filled {
            key: String::new(),
            client: client.map(|client| client.name.clone()).unwrap_or_default(),
            ops: BTreeSet::from(["fetch".to_owned()]),
            target: String::new(),
            is_active: true,
            origins: String::new(),
            others: String::new(),
            written: Written::Form(Draft::blank()),
        }
    }

    fn of(visit: &Visit, route: &PublicRouteRecord) -> Filled {
        Filled {
            key: route.route_key.clone(),
            client: client_of(visit, route).0,
            ops: route.allowed_ops.clone(),
            target: route.target_url.clone().unwrap_or_default(),
            is_active: route.is_active,
            origins: public::origins(&route.metadata).unwrap_or_default().join("\n"),
            others: shown_others(&route.metadata),
            written: written(route.metadata.get(CONTRACT)),
        }
    }

    fn sent(form: &Form) -> Filled {
        let text = |name: &str| form.text(name).replace("\r\n", "\n").trim().to_owned();
        Filled {
            key: text("route_key"),
            client: text("client_name"),
            ops: form.all("ops").into_iter().collect(),
            target: text("target_url"),
            is_active: form.text("is_active") == "on",
            origins: text("origins"),
            others: text("others"),
            written: match (form.text("decides"), form.has("contract")) {
                ("keys", _) => Written::Not,
                (_, true) => Written::Json(text("contract")),
                (_, false) => Written::Form(Draft::sent(form)),
            },
        }
    }

    /// The contract in JSON.
    fn contract(&self) -> Result<Option<Value>, Errors> {
        match &self.written {
            Written::Not => Ok(None),
            Written::Form(draft) => draft.to_json(&self.ops).map(Some),
            Written::Json(text) => serde_json::from_str(text)
                .map(Some)
                .map_err(|why| Errors::one("contract", format!("This is not JSON: {why}."))),
        }
    }

    /// The metadata as a whole; `before`: as it was.
    fn metadata(&self, before: Option<&PublicRouteRecord>) -> Result<Map<String, Value>, Errors> {
        let before = before.map(|route| &route.metadata);
        let mut metadata = match before {
            // What was shown is not what there is, if it holds a password.
            Some(before) if shown_others(before) == self.others => others(before),
            _ if self.others.is_empty() => Map::new(),
            _ => serde_json::from_str(&self.others)
                .map_err(|why| Errors::one("others", format!("This is no JSON object: {why}.")))?,
        };
        for name in [CONTRACT, CORS] {
            if metadata.contains_key(name) {
                return Err(Errors::one("others", format!("{name} has fields of its own above.")));
            }
        }
        if let Some(contract) = self.contract()? {
            metadata.insert(CONTRACT.to_owned(), contract);
        }
        let origins = self.origins.split(['\n', ',', ' ']).map(str::trim).filter(|origin| !origin.is_empty());
        let origins: Vec<_> = origins.collect();
        if !origins.is_empty() {
            metadata.insert(CORS.to_owned(), json!({ "origins": origins }));
        }
        Ok(metadata)
    }

    /// What a rejection says, beside its field.
    fn errors(&self, rejection: Rejection) -> Result<Errors, Fault> {
        let Rejection::Invalid { param, message } = &rejection else { return Errors::of(rejection) };
        if param == "metadata.cors" {
            return Ok(Errors::one("origins", sentence(message)));
        }
        let Some(place) = param.strip_prefix("metadata.contract.") else { return Errors::of(rejection) };
        let said = message.strip_prefix(place).unwrap_or(message).trim();
        Ok(match &self.written {
            Written::Form(draft) => match draft.field_of(place) {
                Some(field) => Errors::one(&field, sentence(said)),
                None => Errors::one("", sentence(message)),
            },
            Written::Json(_) | Written::Not => Errors::one("contract", sentence(message)),
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NewQuery {
    client: String,
}

#[derive(Template)]
#[template(path = "route_edit.html")]
struct Page {
    chrome: Chrome,
    title: String,
    action: String,
    cancel: String,
    is_new: bool,
    problem: Option<String>,
    basics: Vec<Field>,
    ops: Vec<Choice>,
    ops_error: Option<String>,
    decides: Field,
    parts: Vec<Part>,
    json: Option<Field>,
    more: Vec<Field>,
    report: Option<Report>,
}

fn choice(value: &str, label: &str, hint: &str, chosen: bool) -> Choice {
    Choice { value: value.to_owned(), label: label.to_owned(), hint: hint.to_owned(), chosen }
}

fn page(
    visit: &Visit,
    route: Option<&PublicRouteRecord>,
    filled: &Filled,
    (errors, report): (&Errors, Option<Report>),
) -> Page {
    let title = route.map_or_else(|| "Add a public route".to_owned(), |route| format!("Edit {}", route.route_key));
    let known = ["route_key", "client_name", "allowed_ops", "target_url", "origins", "others", "contract"];
    let is_of_kind = |name: &str| Kind::ALL.iter().any(|kind| name.starts_with(&format!("{}.", kind.as_str())));
    let is_contract = matches!(filled.written, Written::Form(_)) && errors.is_at_some(is_of_kind);
    let json = match &filled.written {
        Written::Json(text) => Some(
            Field::text("contract", "Contract")
                .code(24)
                .value(&**text)
                .hint("An object with a member for each operation that is to be open: fetch, insert, update, delete, query.")
                .error(errors.at("contract")),
        ),
        Written::Form(_) | Written::Not => None,
    };
    let parts = match &filled.written {
        Written::Form(draft) => parts(draft, &filled.ops, errors),
        Written::Json(_) | Written::Not => Vec::new(),
    };
    Page {
        action: route.map_or_else(|| format!("{PATH}/new"), |route| format!("{}/edit", address_of(route.id))),
        cancel: route.map_or_else(|| PATH.to_owned(), |route| address_of(route.id)),
        is_new: route.is_none(),
        problem: errors.beside(&known).filter(|_| !is_contract).map(str::to_owned),
        basics: basics(visit, route.is_none(), filled, errors),
        ops: OPERATIONS.iter().map(|op| choice(op, op, "", filled.ops.contains(*op))).collect(),
        ops_error: errors.at("allowed_ops").map(str::to_owned),
        decides: decides(&filled.written),
        parts,
        json,
        more: more(filled, errors),
        report,
        chrome: Chrome::of(visit, &*title),
        title,
    }
}

fn decides(written: &Written) -> Field {
    let is_not = *written == Written::Not;
    let choices = vec![
        choice("contract", "A contract", "Nothing is open that it does not name.", !is_not),
        choice("keys", "Gateway keys alone", "Whoever has one reaches what its rights allow, on every table.", is_not),
    ];
    Field::radios("decides", "What decides", choices)
}

fn basics(visit: &Visit, is_new: bool, filled: &Filled, errors: &Errors) -> Vec<Field> {
    let clients = visit.app().catalog.clients();
    let mut choices: Vec<_> = clients
        .iter()
        .map(|client| {
            let label = if client.is_usable() { client.name.clone() } else { format!("{} (not usable)", client.name) };
            choice(&client.name, &label, "", client.name.eq_ignore_ascii_case(&filled.client))
        })
        .collect();
    if !choices.iter().any(|choice| choice.chosen) {
        choices.insert(0, choice("", "Choose a client", "", true));
    }
    let key = Field::line("route_key", "Key")
        .value(&*filled.key)
        .longest(ROUTE_KEY_BYTES_MAX)
        .placeholder("catalogue")
        .hint("It is called at /public/key/operation: a-z 0-9 - _ /")
        .error(errors.at("route_key"))
        .required();
    vec![
        if is_new { key.focused() } else { key },
        Field::select("client_name", "Client", choices).error(errors.at("client_name")),
        Field::checkbox("is_active", "Active", filled.is_active),
    ]
}

fn more(filled: &Filled, errors: &Errors) -> Vec<Field> {
    vec![
        Field::text("origins", "Origins whose pages may call it")
            .value(&*filled.origins)
            .placeholder("https://app.example.com")
            .hint("One a line, exactly as browsers send it; * is every origin. This binds browsers only (CORS).")
            .error(errors.at("origins")),
        Field::url("target_url", "Target of fetch")
            .value(&*filled.target)
            .hint("Instead of the database, a fetch is passed on to this URL.")
            .error(errors.at("target_url")),
        Field::text("others", "Other metadata (JSON)")
            .code(3)
            .value(&*filled.others)
            .hint("An object of your own. Passwords in addresses are masked: if you change anything, write them anew.")
            .error(errors.at("others")),
    ]
}

// ---- what is done with it ------------------------------------------------------------------------------------------------

async fn new(visit: Visit) -> Result<Answer, Fault> {
    Answer::page(&page(&visit, None, &Filled::blank(&visit), (&Errors::none(), None)))
}

async fn edit(visit: Visit) -> Result<Answer, Fault> {
    let route = found(&visit)?;
    let (filled, none) = (Filled::of(&visit, &route), Errors::none());
    Answer::page(&page(&visit, Some(&route), &filled, (&none, None)))
}

async fn create(visit: Visit) -> Result<Answer, Fault> {
    submitted(visit, None).await
}

async fn change(visit: Visit) -> Result<Answer, Fault> {
    let route = found(&visit)?;
    submitted(visit, Some(&route)).await
}

/// The form, with the button that was pressed.
async fn submitted(visit: Visit, before: Option<&PublicRouteRecord>) -> Result<Answer, Fault> {
    let mut filled = Filled::sent(&visit.form);
    match visit.form.text("do") {
        "json" => rewritten(&visit, before, filled, |filled| {
            let contract = filled.contract()?.unwrap_or_else(|| json!({}));
            Ok(Written::Json(pretty(&contract)))
        }),
        "form" => rewritten(&visit, before, filled, as_form),
        "preview" => preview(&visit, before, filled).await,
        "save" | "" => save(&visit, before, filled).await,
        other => {
            if let (Some(kind), Written::Form(draft)) =
                (other.strip_prefix("add:").and_then(Kind::parse), &mut filled.written)
            {
                draft.add(kind);
            }
            Answer::page(&page(&visit, before, &filled, (&Errors::none(), None)))
        }
    }
}

fn rewritten(
    visit: &Visit,
    before: Option<&PublicRouteRecord>,
    mut filled: Filled,
    rewrite: impl Fn(&Filled) -> Result<Written, Errors>,
) -> Result<Answer, Fault> {
    match rewrite(&filled) {
        Ok(written) => {
            filled.written = written;
            Answer::page(&page(visit, before, &filled, (&Errors::none(), None)))
        }
        Err(errors) => Answer::unfit(&page(visit, before, &filled, (&errors, None))),
    }
}

fn as_form(filled: &Filled) -> Result<Written, Errors> {
    // There was none, and one is to be written now.
    if let Written::Form(draft) = &filled.written {
        return Ok(Written::Form(draft.clone()));
    }
    let contract = filled.contract()?.unwrap_or_else(|| json!({}));
    let is_empty = contract.as_object().is_some_and(Map::is_empty);
    if !is_empty {
        Contract::parse(&contract.to_string()).map_err(|flaw| Errors::one("contract", sentence(&flaw.to_string())))?;
    }
    match written(Some(&contract)) {
        Written::Form(draft) => Ok(Written::Form(draft)),
        _ => Err(Errors::one("contract", "It has too many tables for the form, or says what it has no field for.")),
    }
}

/// What the registry would make of the form.
enum Outcome<T> {
    Done(T),
    Wrong(Errors),
}

async fn preview(visit: &Visit, before: Option<&PublicRouteRecord>, filled: Filled) -> Result<Answer, Fault> {
    let app = visit.app();
    let drafted = with_metadata(before, &filled, |metadata| match before {
        Some(before) => public_routes::draft_change(app, before, filled.route_change(metadata)),
        None => public_routes::draft(app, filled.new_route(metadata)),
    })?;
    match drafted {
        Outcome::Done(route) => {
            let report = Report::of(app, &route, true).await;
            Answer::page(&page(visit, before, &filled, (&Errors::none(), Some(report))))
        }
        Outcome::Wrong(errors) => Answer::unfit(&page(visit, before, &filled, (&errors, None))),
    }
}

fn with_metadata<T>(
    before: Option<&PublicRouteRecord>,
    filled: &Filled,
    make: impl FnOnce(Map<String, Value>) -> registry::Result<T>,
) -> Result<Outcome<T>, Fault> {
    match filled.metadata(before) {
        Ok(metadata) => match make(metadata) {
            Ok(made) => Ok(Outcome::Done(made)),
            Err(rejection) => filled.errors(rejection).map(Outcome::Wrong),
        },
        Err(errors) => Ok(Outcome::Wrong(errors)),
    }
}

async fn save(visit: &Visit, before: Option<&PublicRouteRecord>, filled: Filled) -> Result<Answer, Fault> {
    let (app, actor) = (visit.app(), visit.actor());
    let metadata = match filled.metadata(before) {
        Ok(metadata) => metadata,
        Err(errors) => return Answer::unfit(&page(visit, before, &filled, (&errors, None))),
    };
    let saved = match before {
        Some(before) => public_routes::change(app, &before.route_key, filled.route_change(metadata), &actor).await,
        None => public_routes::create(app, filled.new_route(metadata), &actor).await,
    };
    match saved {
        Ok(route) => {
            let flash = Flash::good(format!("{} is saved. Below is what it opens.", route.route_key));
            Ok(Answer::to(&address_of(route.id))?.saying(flash))
        }
        Err(rejection) => {
            let errors = filled.errors(rejection)?;
            Answer::unfit(&page(visit, before, &filled, (&errors, None)))
        }
    }
}

impl Filled {
    fn new_route(&self, metadata: Map<String, Value>) -> NewRoute {
        NewRoute {
            route_key: self.key.clone(),
            client_name: self.client.clone(),
            allowed_ops: self.ops.iter().cloned().collect(),
            target_url: Some(self.target.clone()),
            is_active: self.is_active,
            metadata,
        }
    }

    fn route_change(&self, metadata: Map<String, Value>) -> RouteChange {
        RouteChange {
            route_key: Some(self.key.clone()),
            client_name: Some(self.client.clone()),
            allowed_ops: Some(self.ops.iter().cloned().collect()),
            target_url: Some(self.target.clone()),
            is_active: Some(self.is_active),
            metadata: Some(metadata),
        }
    }
}
