//! Adding and editing a receiver. What it verifies with is written and never read back.

use std::net::IpAddr;

use askama::Template;
use ipnet::IpNet;
use postrider_core::dialect::Dialect;
use postrider_core::inbound::Provider;
use postrider_core::limits::{DESCRIPTION_CHARS_MAX, NAME_CHARS_MAX};
use postrider_core::signing::Secret;
use postrider_core::webhook::{RateLimit, ReceiverAnswer};

use super::{PATH, address, found, name_of, setup, show};
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::{self, Choice, Field};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::{Form, Visit};
use crate::registry::Patch;
use crate::registry::webhooks::{self, DEFAULT_SOURCE, ReceiverChange, WebhookChange};
use crate::store::WebhookRecord;

pub(super) fn routes() -> Vec<Route> {
    let write = Access::Needs(Permission::WebhooksWrite);
    vec![
        Route::get("/settings/receivers/new", write, new),
        Route::post("/settings/receivers/new", write, create),
        Route::get("/settings/receivers/{receiver}/edit", write, edit),
        Route::post("/settings/receivers/{receiver}/edit", write, change),
    ]
}

#[derive(Template)]
#[template(path = "receiver_edit.html")]
struct Page {
    chrome: Chrome,
    title: String,
    action: String,
    cancel: String,
    is_new: bool,
    problem: Option<String>,
    first: Vec<Field>,
    secret: Vec<Field>,
    more: Vec<Field>,
    /// Something in it is set, or wrong.
    more_open: bool,
}

/// What is in the form, without secrets: what was sent, or else what there is.
#[derive(Default)]
struct Filled {
    name: String,
    source: String,
    url: String,
    patterns: String,
    description: String,
    dialect: Dialect,
    signed_url: String,
    allowed_addresses: String,
    rate: String,
    answer_status: String,
    answer_type: String,
    answer_body: String,
}

/// The fields below `More` and what the registry calls them.
const MORE: [(&str, &str); 6] = [
    ("signed_url", "receiver.url"),
    ("allowed_addresses", "receiver.allowed_addresses"),
    ("rate", "receiver.rate_limit.per_second"),
    ("answer_status", "receiver.answer.status"),
    ("answer_type", "receiver.answer.content_type"),
    ("answer_body", "receiver.answer.body"),
];

impl Filled {
    fn blank() -> Filled {
        Filled { source: DEFAULT_SOURCE.to_owned(), dialect: Dialect::Alumia, ..Filled::default() }
    }

    fn of(visit: &Visit, record: &WebhookRecord) -> Result<Filled, Fault> {
        let (spec, receiver) = (&record.spec, super::spec(record)?);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let own_url = receiver.url == webhooks::receive_url(&visit.origin(), record.id);
        let addresses: Vec<_> = receiver.allowed_addresses.iter().map(ToString::to_string).collect();
        let answer = receiver.answer.as_ref();
        Ok(Filled {
            name: text(&spec.name),
            source: receiver.source.clone(),
            url: spec.url.clone(),
            patterns: spec.events.0.join(", "),
            description: text(&spec.description),
            dialect: spec.dialect,
            signed_url: if own_url { String::new() } else { receiver.url.clone() },
            allowed_addresses: addresses.join("\n"),
            rate: receiver.rate_limit.map(|rate| rate.per_second.to_string()).unwrap_or_default(),
            answer_status: answer.map(|answer| answer.status.to_string()).unwrap_or_default(),
            answer_type: answer.and_then(|answer| answer.content_type.clone()).unwrap_or_default(),
            answer_body: answer.map(|answer| answer.body.clone()).unwrap_or_default(),
        })
    }

    fn sent(form: &Form) -> Filled {
        let text = |name: &str| form.text(name).trim().to_owned();
        Filled {
            name: text("name"),
            source: text("source"),
            url: text("url"),
            patterns: text("patterns"),
            description: text("description"),
            dialect: form.text("dialect").parse().unwrap_or(Dialect::Alumia),
            signed_url: text("signed_url"),
            allowed_addresses: text("allowed_addresses"),
            rate: text("rate"),
            answer_status: text("answer_status"),
            answer_type: text("answer_type"),
            answer_body: form.text("answer_body").to_owned(),
        }
    }

    /// What is asked for.
    ///
    /// # Errors
    /// What cannot be read as what it should be.
    fn change(&self, visit: &Visit) -> Result<WebhookChange, Errors> {
        let maybe = |text: &str| if text.is_empty() { Patch::Null } else { Patch::Set(text.to_owned()) };
        let patterns = self.patterns.split([',', '\n', ' ']).map(str::trim).filter(|pattern| !pattern.is_empty());
        let (secrets, verify_token) = given(&visit.form);
        let receiver = ReceiverChange {
            source: maybe(&self.source),
            secrets,
            verify_token,
            url: maybe(&self.signed_url),
            allowed_addresses: Patch::Set(self.addresses()?),
            rate_limit: self.rate()?,
            answer: self.answer()?,
        };
        Ok(WebhookChange {
            name: maybe(&self.name),
            url: Patch::Set(self.url.clone()),
            description: maybe(&self.description),
            dialect: Patch::Set(self.dialect),
            events: Patch::Set(patterns.map(str::to_owned).collect()),
            receiver: Patch::Set(receiver),
            origin: visit.origin(),
            ..WebhookChange::default()
        })
    }

    fn addresses(&self) -> Result<Vec<IpNet>, Errors> {
        let read = |text: &str| {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map(|network| network.trunc()).map_err(|_| {
                let shown = kit::short(text, 60);
                Errors::one("receiver.allowed_addresses", format!("{shown} is neither an address nor a network."))
            })
        };
        let all = self.allowed_addresses.split([',', '\n', ' ', '\r']).filter(|text| !text.is_empty());
        all.map(read).collect()
    }

    fn rate(&self) -> Result<Patch<RateLimit>, Errors> {
        if self.rate.is_empty() {
            return Ok(Patch::Null);
        }
        let wrong = || Errors::one("receiver.rate_limit.per_second", "This is no number.");
        self.rate.parse().map(|per_second| Patch::Set(RateLimit { per_second })).map_err(|_| wrong())
    }

    fn answer(&self) -> Result<Patch<ReceiverAnswer>, Errors> {
        if self.answer_status.is_empty() && self.answer_type.is_empty() && self.answer_body.is_empty() {
            return Ok(Patch::Null);
        }
        let wrong = || Errors::one("receiver.answer.status", "Give a status from 200 to 299.");
        let status = self.answer_status.parse().map_err(|_| wrong())?;
        let content_type = Some(self.answer_type.clone()).filter(|text| !text.is_empty());
        Ok(Patch::Set(ReceiverAnswer { status, content_type, body: self.answer_body.clone() }))
    }
}

/// The secrets and the verify token of the form. Empty leaves what there is; both are forgotten if that is asked for.
fn given(form: &Form) -> (Patch<Vec<Secret>>, Patch<Secret>) {
    let lines = form.text("secret").lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Vec<_> = lines.map(|line| Secret::new(line.to_owned())).collect();
    let token = form.given("verify_token").map(|token| Secret::new(token.to_owned()));
    let forgets = form.text("forget") == "on";
    let secrets = match secrets.is_empty() {
        false => Patch::Set(secrets),
        true if forgets => Patch::Null,
        true => Patch::Absent,
    };
    (secrets, token.map_or(if forgets { Patch::Null } else { Patch::Absent }, Patch::Set))
}

fn page(visit: &Visit, record: Option<&WebhookRecord>, filled: &Filled, errors: &Errors) -> Page {
    let title = record.map_or_else(|| "Add a receiver".to_owned(), |record| format!("Edit {}", name_of(record)));
    let secret_error = errors.at("receiver.secret").or_else(|| errors.at("receiver.secrets"));
    let known = ["name", "url", "events", "description", "dialect", "receiver.source", "receiver.secret"];
    let known = known.iter().chain(&["receiver.secrets", "receiver.verify_token"]).copied();
    let known: Vec<_> = known.chain(MORE.iter().map(|(_, registry)| *registry)).collect();
    let (place, secret) = setup::hints(Provider::find(&filled.source));
    let is_set = |texts: &[&str]| texts.iter().any(|text| !text.is_empty());
    let more = [&filled.signed_url, &filled.allowed_addresses, &filled.rate, &filled.answer_status];
    Page {
        action: record.map_or_else(|| format!("{PATH}/new"), |record| format!("{}/edit", address(record.id))),
        cancel: record.map_or_else(|| PATH.to_owned(), |record| address(record.id)),
        is_new: record.is_none(),
        problem: errors.beside(&known).map(str::to_owned),
        first: first_fields(filled, errors, record.is_none(), place),
        secret: secret_fields(record.is_none(), errors, secret, secret_error),
        more: more_fields(filled, errors),
        more_open: is_set(&more.map(String::as_str)) || MORE.iter().any(|(_, name)| errors.at(name).is_some()),
        chrome: Chrome::of(visit, &*title),
        title,
    }
}

fn first_fields(filled: &Filled, errors: &Errors, is_new: bool, place: &str) -> Vec<Field> {
    let dialects = Dialect::ALL.map(|dialect| Choice {
        value: dialect.name().to_owned(),
        label: match dialect {
            Dialect::Alumia => "As it came in, with X-Alumia-Signature".to_owned(),
            other => format!("Wrapped as an event of {}", super::super::webhooks::dialect_label(other)),
        },
        hint: String::new(),
        chosen: dialect == filled.dialect,
    });
    let name = Field::line("name", "Name").value(&*filled.name).longest(NAME_CHARS_MAX).error(errors.at("name"));
    let source_hint = if place.is_empty() { "Who sends: it says how requests are verified." } else { place };
    vec![
        Field::select("source", "Provider", setup::choices(&filled.source))
            .hint(source_hint)
            .error(errors.at("receiver.source")),
        if is_new { name.focused() } else { name },
        Field::url("url", "Forward to")
            .value(&*filled.url)
            .placeholder("https://app.example/hooks")
            .hint("What is verified is sent on to this URL. Without one it is kept, and goes to whoever is subscribed.")
            .error(errors.at("url")),
        Field::line("patterns", "Event types to forward")
            .value(&*filled.patterns)
            .placeholder("push, issues.*")
            .hint("Names or patterns, separated by commas. None: all.")
            .error(errors.at("events")),
        Field::select("dialect", "How it is forwarded", dialects.into()).error(errors.at("dialect")),
        Field::text("description", "Description")
            .value(&*filled.description)
            .longest(DESCRIPTION_CHARS_MAX)
            .error(errors.at("description")),
    ]
}

fn secret_fields(is_new: bool, errors: &Errors, which: &str, secret_error: Option<&str>) -> Vec<Field> {
    let kept = if is_new {
        "Empty: one is made, shown once, for you to enter at the provider."
    } else {
        "Empty: stays as it is. What there is, is never shown."
    };
    let hint = format!("{which} {kept} Several may be active at once, one a line, the current one first.");
    let mut fields = vec![
        Field::text("secret", "Secrets to verify with").hint(hint.trim()).error(secret_error),
        Field::password("verify_token", "Verify token", "off")
            .hint("For the handshake of Meta and eBay: the text that you invent beside the secret.")
            .error(errors.at("receiver.verify_token")),
    ];
    if !is_new {
        let hint = "The receiver's own secret verifies from then on.";
        fields
            .push(Field::checkbox("forget", "Forget the secrets and the verify token given before", false).hint(hint));
    }
    fields
}

fn more_fields(filled: &Filled, errors: &Errors) -> Vec<Field> {
    vec![
        Field::url("signed_url", "URL as the provider was told it")
            .value(&*filled.signed_url)
            .hint("Only if it is not the receive URL: some providers sign it.")
            .error(errors.at("receiver.url")),
        Field::text("allowed_addresses", "Allowed addresses")
            .value(&*filled.allowed_addresses)
            .placeholder("192.0.2.0/24")
            .hint("Addresses or networks, one a line, from which requests are taken. None: from anywhere.")
            .error(errors.at("receiver.allowed_addresses")),
        Field::line("rate", "Requests per second")
            .value(&*filled.rate)
            .hint("What comes beyond is answered 429 and not kept. Each node counts for itself.")
            .error(errors.at("receiver.rate_limit.per_second").or_else(|| errors.at("receiver.rate_limit"))),
        Field::line("answer_status", "Answer: status")
            .value(&*filled.answer_status)
            .placeholder("202")
            .hint("What accepted requests are answered. Empty: what the provider wants to hear.")
            .error(errors.at("receiver.answer.status")),
        Field::line("answer_type", "Answer: content type")
            .value(&*filled.answer_type)
            .error(errors.at("receiver.answer.content_type")),
        Field::text("answer_body", "Answer: body").value(&*filled.answer_body).error(errors.at("receiver.answer.body")),
    ]
}

async fn new(visit: Visit) -> Result<Answer, Fault> {
    visit.tenant()?;
    Answer::page(&page(&visit, None, &Filled::blank(), &Errors::none()))
}

async fn create(visit: Visit) -> Result<Answer, Fault> {
    let tenant = visit.tenant()?.record.id;
    let filled = Filled::sent(&visit.form);
    let change = match filled.change(&visit) {
        Ok(change) => change,
        Err(errors) => return Answer::unfit(&page(&visit, None, &filled, &errors)),
    };
    let was_given = match &change.receiver {
        Patch::Set(ReceiverChange { secrets: Patch::Set(given), .. }) => given.clone(),
        _ => Vec::new(),
    };
    match webhooks::create(visit.app(), tenant, change, None, &visit.actor()).await {
        Ok((record, made)) => {
            let flash = Flash::good("The receiver is added: give its URL to the provider.");
            // Whoever gave it knows it.
            let flash = if was_given.contains(&made) {
                flash
            } else {
                flash.revealing(show::REVEAL, record.id.to_string(), made.reveal())
            };
            Ok(Answer::to(&address(record.id))?.saying(flash))
        }
        Err(rejection) => Answer::unfit(&page(&visit, None, &filled, &Errors::of(rejection)?)),
    }
}

async fn edit(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    Answer::page(&page(&visit, Some(&record), &Filled::of(&visit, &record)?, &Errors::none()))
}

async fn change(visit: Visit) -> Result<Answer, Fault> {
    let record = found(&visit)?;
    let filled = Filled::sent(&visit.form);
    let change = match filled.change(&visit) {
        Ok(change) => change,
        Err(errors) => return Answer::unfit(&page(&visit, Some(&record), &filled, &errors)),
    };
    match webhooks::change(visit.app(), visit.scope(), record.id, change, &visit.actor()).await {
        Ok(record) => {
            let flash = Flash::good(format!("{} is saved.", name_of(&record)));
            Ok(Answer::to(&address(record.id))?.saying(flash))
        }
        Err(rejection) => Answer::unfit(&page(&visit, Some(&record), &filled, &Errors::of(rejection)?)),
    }
}
