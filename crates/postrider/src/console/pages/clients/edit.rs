//! Adding and changing a client. Its address is written and never read back with its password.

use askama::Template;
use postrider_core::limits::{DESCRIPTION_CHARS_MAX, NAME_CHARS_MAX};
use postrider_core::signing::Secret;
use serde_json::{Map, Value};

use super::{PATH, address_of, found};
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::{Choice, Field};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::{Form, Visit};
use crate::gateway::address;
use crate::registry::Patch;
use crate::registry::clients::{self, ClientChange, NewClient};
use crate::store::ClientRecord;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/settings/clients/new", Access::Platform, new),
        Route::post("/settings/clients/new", Access::Platform, create),
        Route::get("/settings/clients/{client}/edit", Access::Platform, edit),
        Route::post("/settings/clients/{client}/edit", Access::Platform, change),
    ]
}

#[derive(Template)]
#[template(path = "client_edit.html")]
struct Page {
    chrome: Chrome,
    title: String,
    action: String,
    cancel: String,
    is_new: bool,
    problem: Option<String>,
    fields: Vec<Field>,
    more: Vec<Field>,
    more_open: bool,
}

/// What is in the form; of an address only one without a password.
#[derive(Default)]
struct Filled {
    name: String,
    uri: String,
    variable: String,
    description: String,
    joins: bool,
    is_active: bool,
    /// `None`: as the deployment has it.
    enforce_keys: Option<bool>,
    metadata: String,
}

/// Metadata as the form has it: passwords in it are masked.
fn written(client: &ClientRecord) -> String {
    if client.metadata.is_empty() {
        return String::new();
    }
    serde_json::to_string_pretty(&clients::shown_metadata(&client.metadata)).unwrap_or_default()
}

/// Line ends as they were before a browser has sent them.
fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n").trim().to_owned()
}

impl Filled {
    fn of(client: &ClientRecord) -> Filled {
        Filled {
            name: client.name.clone(),
            variable: client.uri_env_var.clone().unwrap_or_default(),
            description: client.description.clone().unwrap_or_default(),
            is_active: client.is_active,
            enforce_keys: client.enforce_keys,
            metadata: written(client),
            ..Filled::default()
        }
    }

    fn sent(form: &Form) -> Filled {
        let text = |name: &str| form.text(name).trim().to_owned();
        let uri = text("pg_uri");
        Filled {
            name: text("client_name"),
            // What has a password is not sent back.
            uri: if address::shown(&uri) == uri && !uri.contains('@') { uri } else { String::new() },
            variable: text("pg_uri_env_var"),
            description: text("description"),
            joins: form.text("tenant_id") == "this",
            is_active: form.text("is_active") == "on",
            enforce_keys: match form.text("enforce_keys") {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
            metadata: unix_lines(form.text("metadata")),
        }
    }

    fn metadata(&self) -> Result<Map<String, Value>, Errors> {
        if self.metadata.is_empty() {
            return Ok(Map::new());
        }
        let wrong = |why: String| Errors::one("metadata", why);
        let value: Value =
            serde_json::from_str(&self.metadata).map_err(|why| wrong(format!("This is not JSON: {why}.")))?;
        match value {
            Value::Object(metadata) => Ok(metadata),
            _ => Err(wrong("This must be a JSON object.".to_owned())),
        }
    }
}

fn secret(form: &Form) -> Option<Secret> {
    form.given("pg_uri").map(|uri| Secret::new(uri.to_owned()))
}

fn choice(value: &str, label: String, hint: &str, chosen: bool) -> Choice {
    Choice { value: value.to_owned(), label, hint: hint.to_owned(), chosen }
}

fn page(visit: &Visit, client: Option<&ClientRecord>, filled: &Filled, errors: &Errors) -> Page {
    let title = client.map_or_else(|| "Add a client".to_owned(), |client| format!("Edit {}", client.name));
    let known = ["client_name", "pg_uri", "pg_uri_env_var", "tenant_id", "description", "metadata"];
    Page {
        action: client.map_or_else(|| format!("{PATH}/new"), |client| format!("{}/edit", address_of(client.id))),
        cancel: client.map_or_else(|| PATH.to_owned(), |client| address_of(client.id)),
        is_new: client.is_none(),
        problem: errors.beside(&known).map(str::to_owned),
        fields: first_fields(visit, client, filled, errors),
        more: more_fields(visit, client, filled, errors),
        more_open: errors.at("metadata").is_some() || errors.at("description").is_some(),
        chrome: Chrome::of(visit, &*title),
        title,
    }
}

fn first_fields(visit: &Visit, client: Option<&ClientRecord>, filled: &Filled, errors: &Errors) -> Vec<Field> {
    let name = Field::line("client_name", "Name")
        .value(&*filled.name)
        .longest(NAME_CHARS_MAX)
        .hint("Callers name it in the header X-Athena-Client.")
        .error(errors.at("client_name"))
        .required();
    let now = client.map(|client| super::place(visit.app(), client).shown).filter(|shown| !shown.is_empty());
    let uri_hint = match now {
        Some(shown) => format!("Now {shown}. Empty: it stays as it is. It is kept encrypted."),
        None => {
            "postgres://, postgresql://, or sqlite: and an absolute path. It is kept encrypted, and shown without its \
                 password."
                .to_owned()
        }
    };
    let mut fields = vec![
        if client.is_none() { name.focused() } else { name },
        Field::line("pg_uri", "Address of the database")
            .value(&*filled.uri)
            .placeholder("postgres://app:password@db.internal:5432/shop?sslmode=verify-full")
            .hint(uri_hint)
            .error(errors.at("pg_uri")),
        Field::line("pg_uri_env_var", "Or the environment variable that holds it")
            .value(&*filled.variable)
            .placeholder("SHOP_DATABASE_URL")
            .hint("On every node.")
            .error(errors.at("pg_uri_env_var")),
    ];
    if client.is_none() {
        let this = visit.tenant().map_or_else(|_| "–".to_owned(), |tenant| tenant.record.name.clone());
        let tenants = vec![
            choice("own", "One of its own, of the same name".to_owned(), "", !filled.joins),
            choice("this", this, "The one that you look at.", filled.joins),
        ];
        fields.push(
            Field::radios("tenant_id", "Tenant, whose webhooks its operations fire", tenants)
                .error(errors.at("tenant_id")),
        );
    }
    fields
}

fn more_fields(visit: &Visit, client: Option<&ClientRecord>, filled: &Filled, errors: &Errors) -> Vec<Field> {
    let default = if visit.app().config.gateway.enforces_keys { "needed" } else { "not needed" };
    let enforced = vec![
        choice("", format!("As the deployment has it ({default})"), "", filled.enforce_keys.is_none()),
        choice("yes", "Needed".to_owned(), "", filled.enforce_keys == Some(true)),
        choice(
            "no",
            "Not needed: whoever reaches the server may run any operation".to_owned(),
            "",
            filled.enforce_keys == Some(false),
        ),
    ];
    let mut fields = vec![
        Field::select("enforce_keys", "Gateway keys", enforced),
        Field::text("description", "Description")
            .value(&*filled.description)
            .longest(DESCRIPTION_CHARS_MAX)
            .error(errors.at("description")),
        Field::text("metadata", "Metadata (JSON)")
            .value(&*filled.metadata)
            .hint("An object of your own. Passwords in addresses are shown masked: if you change anything, write them anew.")
            .error(errors.at("metadata")),
    ];
    if client.is_some() {
        fields.push(
            Field::checkbox("is_active", "Active", filled.is_active).hint("No operation runs on an inactive client."),
        );
    }
    fields
}

async fn new(visit: Visit) -> Result<Answer, Fault> {
    Answer::page(&page(&visit, None, &Filled::default(), &Errors::none()))
}

async fn create(visit: Visit) -> Result<Answer, Fault> {
    let filled = Filled::sent(&visit.form);
    let metadata = match filled.metadata() {
        Ok(metadata) => metadata,
        Err(errors) => return Answer::unfit(&page(&visit, None, &filled, &errors)),
    };
    let new = NewClient {
        name: filled.name.clone(),
        description: Some(filled.description.clone()).filter(|text| !text.is_empty()),
        uri: secret(&visit.form),
        uri_env_var: Some(filled.variable.clone()).filter(|text| !text.is_empty()),
        tenant_id: if filled.joins { Some(visit.tenant()?.record.id) } else { None },
        is_active: true,
        metadata,
        enforce_keys: filled.enforce_keys,
    };
    match clients::create(visit.app(), new, &visit.actor()).await {
        Ok(client) => {
            let flash = Flash::good(format!("{} is added. Test the connection.", client.name));
            Ok(Answer::to(&address_of(client.id))?.saying(flash))
        }
        Err(rejection) => Answer::unfit(&page(&visit, None, &filled, &Errors::of(rejection)?)),
    }
}

async fn edit(visit: Visit) -> Result<Answer, Fault> {
    let client = found(&visit)?;
    Answer::page(&page(&visit, Some(&client), &Filled::of(&client), &Errors::none()))
}

async fn change(visit: Visit) -> Result<Answer, Fault> {
    let client = found(&visit)?;
    let filled = Filled::sent(&visit.form);
    let metadata = match filled.metadata() {
        // What was shown is not what there is, if it holds a password.
        Ok(_) if filled.metadata == written(&client) => None,
        Ok(metadata) => Some(metadata),
        Err(errors) => return Answer::unfit(&page(&visit, Some(&client), &filled, &errors)),
    };
    let change = ClientChange {
        name: Some(filled.name.clone()),
        description: if filled.description.is_empty() { Patch::Null } else { Patch::Set(filled.description.clone()) },
        uri: secret(&visit.form),
        // The variable as it is says nothing beside a new address.
        uri_env_var: Some(filled.variable.clone()).filter(|name| Some(name) != client.uri_env_var.as_ref()),
        is_active: Some(filled.is_active),
        is_frozen: None,
        metadata,
        enforce_keys: filled.enforce_keys.map_or(Patch::Null, Patch::Set),
    };
    match clients::change(visit.app(), &client.name, change, &visit.actor()).await {
        Ok(client) => {
            let flash = Flash::good(format!("{} is saved.", client.name));
            Ok(Answer::to(&address_of(client.id))?.saying(flash))
        }
        Err(rejection) => Answer::unfit(&page(&visit, Some(&client), &filled, &Errors::of(rejection)?)),
    }
}
