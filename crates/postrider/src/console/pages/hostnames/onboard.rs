//! Making a hostname stand for a client, with a report of what the domain name system says.

use std::collections::BTreeSet;

use askama::Template;
use postrider_core::limits::GATEWAY_TOKEN_BYTES_MAX;

use super::{PATH, told};
use crate::console::answer::{Answer, Fault};
use crate::console::errors::{Errors, sentence};
use crate::console::flash::Flash;
use crate::console::kit::{Choice, Field};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::{Form, Visit};
use crate::gateway::public;
use crate::registry::public_routes::OPERATIONS;
use crate::registry::tenant_hostnames::{self, Onboarded, Refusal, Wanted};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/settings/hostnames/new", Access::Platform, new),
        Route::post("/settings/hostnames/new", Access::Platform, create),
    ]
}

struct Filled {
    tenant: String,
    client: String,
    ops: BTreeSet<String>,
    target: String,
    public_host: String,
    public_port: String,
    has_route: bool,
    /// `auto`, `yes`, `no`.
    binds: String,
    persists: bool,
}

impl Filled {
    fn blank() -> Filled {
        Filled {
            tenant: String::new(),
            client: String::new(),
            ops: BTreeSet::from(["fetch".to_owned()]),
            target: String::new(),
            public_host: String::new(),
            public_port: String::new(),
            has_route: true,
            binds: "auto".to_owned(),
            persists: true,
        }
    }

    fn sent(form: &Form) -> Filled {
        let text = |name: &str| form.text(name).trim().to_owned();
        Filled {
            tenant: text("tenant"),
            client: text("client_name"),
            ops: form.all("ops").into_iter().collect(),
            target: text("target_url"),
            public_host: text("public_host"),
            public_port: text("public_port"),
            has_route: form.text("enable_http_route") == "on",
            binds: text("enable_postgres_binding"),
            persists: form.text("persist_in_catalog") == "on",
        }
    }

    fn wanted(&self) -> Result<Wanted, Errors> {
        let maybe = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let port = maybe(&self.public_port).map(|port| port.parse::<u16>()).transpose();
        Ok(Wanted {
            client_name: maybe(&self.client),
            allowed_ops: self.ops.iter().cloned().collect(),
            enable_http_route: self.has_route,
            enable_postgres_binding: match self.binds.as_str() {
                "yes" => Some(true),
                "no" => Some(false),
                _ => None,
            },
            target_url: maybe(&self.target),
            public_host: maybe(&self.public_host),
            public_port: port.map_err(|_| Errors::one("public_port", "This is no port: 1 to 65535."))?,
            route_metadata: serde_json::Map::new(),
            persist_in_catalog: self.persists,
        })
    }
}

fn errors(refusal: Refusal) -> Result<Errors, Fault> {
    let message = sentence(&refusal.to_string());
    match refusal {
        Refusal::SwitchedOff => Ok(Errors::one("", message)),
        Refusal::NothingToDo => Ok(Errors::one("", "Choose the public route, the address of PostgreSQL, or both.")),
        Refusal::UnknownClient | Refusal::IneligibleClient => Ok(Errors::one("client_name", message)),
        Refusal::Rejected(rejection) => Errors::of(rejection),
    }
}

#[derive(Template)]
#[template(path = "hostname_new.html")]
struct Page {
    chrome: Chrome,
    problem: Option<String>,
    first: Vec<Field>,
    has_route: Field,
    ops: Vec<Choice>,
    ops_error: Option<String>,
    target: Field,
    database: Vec<Field>,
}

fn choice(value: &str, label: &str, chosen: bool) -> Choice {
    Choice { value: value.to_owned(), label: label.to_owned(), hint: String::new(), chosen }
}

fn page(visit: &Visit, filled: &Filled, errors: &Errors) -> Page {
    let known =
        ["tenant", "client_name", "allowed_ops", "target_url", "public_host", "public_port", "enable_postgres_binding"];
    Page {
        chrome: Chrome::of(visit, "Add a hostname"),
        problem: errors.beside(&known).map(str::to_owned),
        first: first(visit, filled, errors),
        has_route: Field::checkbox(
            "enable_http_route",
            "A public route, by which the name is resolved",
            filled.has_route,
        )
        .hint("One that has this key is changed to be as asked; its contract stays."),
        ops: OPERATIONS.iter().map(|op| choice(op, op, filled.ops.contains(*op))).collect(),
        ops_error: errors.at("allowed_ops").map(str::to_owned),
        target: Field::url("target_url", "Target of fetch")
            .value(&*filled.target)
            .hint("Instead of the database, a fetch is passed on to this URL. Empty: none, also if there is one.")
            .error(errors.at("target_url")),
        database: database(filled, errors),
    }
}

fn first(visit: &Visit, filled: &Filled, errors: &Errors) -> Vec<Field> {
    let pattern = visit.app().config.gateway.host_pattern.as_ref();
    let host = pattern.map(|pattern| pattern.host("acme")).unwrap_or_default();
    let clients = visit.app().catalog.clients();
    let mut choices = vec![choice("", "Called as the label", filled.client.is_empty())];
    choices.extend(
        clients
            .iter()
            .filter(|client| client.is_usable())
            .map(|client| choice(&client.name, &client.name, client.name.eq_ignore_ascii_case(&filled.client))),
    );
    vec![
        Field::line("tenant", "Label")
            .value(&*filled.tenant)
            .longest(GATEWAY_TOKEN_BYTES_MAX)
            .placeholder("acme")
            .hint(format!("The first part of the name: acme makes {host}."))
            .error(errors.at("tenant"))
            .focused()
            .required(),
        Field::select("client_name", "Client", choices).error(errors.at("client_name")),
    ]
}

fn database(filled: &Filled, errors: &Errors) -> Vec<Field> {
    let binds = vec![
        choice(
            "auto",
            "If the client has a PostgreSQL, and there is no target",
            filled.binds != "yes" && filled.binds != "no",
        ),
        choice("yes", "Yes", filled.binds == "yes"),
        choice("no", "No", filled.binds == "no"),
    ];
    vec![
        Field::select("enable_postgres_binding", "Tell where the public finds the client's PostgreSQL", binds)
            .hint("Postrider only records it: forwarding that port is your load balancer's business.")
            .error(errors.at("enable_postgres_binding")),
        Field::line("public_host", "Public host")
            .value(&*filled.public_host)
            .hint("Empty: the hostname.")
            .error(errors.at("public_host")),
        Field::line("public_port", "Public port")
            .value(&*filled.public_port)
            .hint("Empty: that of the client's own address.")
            .error(errors.at("public_port")),
        Field::checkbox("persist_in_catalog", "Write it into the client's metadata", filled.persists),
    ]
}

async fn new(visit: Visit) -> Result<Answer, Fault> {
    Answer::page(&page(&visit, &Filled::blank(), &Errors::none()))
}

async fn create(visit: Visit) -> Result<Answer, Fault> {
    let filled = Filled::sent(&visit.form);
    let wanted = match filled.wanted() {
        Ok(wanted) => wanted,
        Err(errors) => return Answer::unfit(&page(&visit, &filled, &errors)),
    };
    match tenant_hostnames::onboard(visit.app(), &filled.tenant, wanted, &visit.actor()).await {
        Ok(made) => Ok(Answer::to(PATH)?.saying(report(&visit, &made).await)),
        Err(refusal) => Answer::unfit(&page(&visit, &filled, &errors(refusal)?)),
    }
}

/// What was made, and what the domain name system says of it.
async fn report(visit: &Visit, made: &Onboarded) -> Flash {
    let (is_good, dns) = match &made.binding {
        Some(binding) => told(&binding.dns),
        None => told(&tenant_hostnames::look_up(visit.app(), &made.host).await),
    };
    let address = made.binding.as_ref().map(|binding| format!(" PostgreSQL is told at {}.", binding.public_pg_uri));
    let is_open = made.route.as_ref().is_some_and(|route| matches!(public::contract(&route.metadata), Ok(None)));
    let contract = if is_open { " Its public route has no contract." } else { "" };
    let text = format!("{} is set up.{}{contract} {dns}.", made.host, address.unwrap_or_default());
    // Names are often made before their records are: it is set up, whatever is said of it now.
    if is_good { Flash::good(text) } else { Flash::warning(text) }
}
