//! Describing an event type, changing what is said of it, and forgetting it.

use askama::Template;
use postrider_core::ids::TenantId;
use postrider_core::limits::{DESCRIPTION_CHARS_MAX, EVENT_TYPE_BYTES_MAX, NAME_CHARS_MAX};
use serde_json::Value;

use super::{Origin, PATH, described, may_change, pretty};
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::{Choice, Field};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::Rejection;
use crate::registry::compatibility::Break;
use crate::registry::event_types::{self, Compatibility, Description};
use crate::store::EventTypeRecord;

pub(super) fn routes() -> Vec<Route> {
    let write = Access::Needs(Permission::EventTypesWrite);
    vec![
        Route::get("/settings/event-types/new", write, new),
        Route::post("/settings/event-types/new", write, create),
        Route::get("/settings/event-types/edit", write, edit),
        Route::post("/settings/event-types/edit", write, change),
        Route::get("/settings/event-types/delete", write, ask),
        Route::post("/settings/event-types/delete", write, delete),
    ]
}

#[derive(Template)]
#[template(path = "event_type_edit.html")]
struct Page {
    chrome: Chrome,
    title: String,
    action: String,
    back: String,
    problem: Option<String>,
    name: Option<Field>,
    whose: Option<Field>,
    group: Field,
    description: Field,
    schema: Field,
    example: Field,
    deprecated: Field,
    /// What the new schema no longer accepts, before it is taken nevertheless.
    breaks: Vec<Break>,
}

/// What is in the form: what was sent, or else what there is.
#[derive(Default)]
struct Filled {
    name: String,
    group: String,
    description: String,
    schema: String,
    example: String,
    is_deprecated: bool,
}

impl Filled {
    fn of(record: &EventTypeRecord) -> Filled {
        let json = |value: &Option<Value>| value.as_ref().map(pretty).unwrap_or_default();
        Filled {
            name: record.name.clone(),
            group: record.group.clone().unwrap_or_default(),
            description: record.description.clone().unwrap_or_default(),
            schema: json(&record.schema),
            example: json(&record.example),
            is_deprecated: record.deprecated,
        }
    }

    fn sent(visit: &Visit) -> Filled {
        let text = |name: &str| visit.form.text(name).trim().to_owned();
        Filled {
            name: text("name"),
            group: text("group"),
            description: text("description"),
            schema: text("schema"),
            example: text("example"),
            is_deprecated: !visit.form.text("deprecated").is_empty(),
        }
    }

    fn description(&self) -> Result<Description, Errors> {
        let maybe = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Description {
            group: maybe(&self.group),
            description: maybe(&self.description),
            schema: json("schema", &self.schema)?,
            example: json("example", &self.example)?,
            deprecated: self.is_deprecated,
        })
    }
}

fn json(field: &str, text: &str) -> Result<Option<Value>, Errors> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = serde_json::from_str(text);
    parsed.map(Some).map_err(|error| Errors::one(field, format!("This is not JSON: {error}.")))
}

fn fields(filled: &Filled, errors: &Errors) -> [Field; 5] {
    [
        Field::line("group", "Group")
            .value(&*filled.group)
            .hint("Types of one group stand together.")
            .error(errors.at("group"))
            .longest(NAME_CHARS_MAX),
        Field::text("description", "Description")
            .value(&*filled.description)
            .error(errors.at("description"))
            .longest(DESCRIPTION_CHARS_MAX),
        Field::text("schema", "JSON Schema of the data")
            .value(&*filled.schema)
            .placeholder("{ \"type\": \"object\", \"required\": [\"id\"] }")
            .hint("It must accept the example. What becomes of events that do not fit is a setting of the tenant.")
            .error(errors.at("schema")),
        Field::text("example", "Example of the data")
            .value(&*filled.example)
            .hint("JSON. Test events of this type carry it.")
            .error(errors.at("example")),
        Field::checkbox("deprecated", "Deprecated: not offered to new webhooks", filled.is_deprecated),
    ]
}

fn page(visit: &Visit, before: Option<&EventTypeRecord>, filled: &Filled, found: (&Errors, Vec<Break>)) -> Page {
    let (errors, breaks) = found;
    let title = before.map_or_else(|| "Describe an event type".to_owned(), |before| format!("Edit {}", before.name));
    let query = |name: &str| serde_urlencoded::to_string([("name", name)]).unwrap_or_default();
    let name = Field::line("name", "Name")
        .value(&*filled.name)
        .placeholder("order.created")
        .hint("As it is published.")
        .error(errors.at("name"))
        .longest(EVENT_TYPE_BYTES_MAX)
        .required()
        .focused();
    let whose = [("tenant", "This tenant"), ("platform", "Every tenant")].map(|(value, label)| Choice {
        value: value.to_owned(),
        label: label.to_owned(),
        hint: String::new(),
        chosen: visit.form.text("whose") == value,
    });
    let asks_whose = before.is_none() && visit.principal().is_platform();
    let [group, description, schema, example, deprecated] = fields(filled, errors);
    let known = ["name", "group", "description", "schema", "example"];
    Page {
        action: match before {
            None => format!("{PATH}/new"),
            Some(before) => format!("{PATH}/edit?{}", query(&before.name)),
        },
        back: before.map_or_else(|| PATH.to_owned(), |before| format!("{PATH}/type?{}", query(&before.name))),
        problem: errors.beside(&known).map(str::to_owned),
        name: before.is_none().then_some(name),
        whose: asks_whose.then(|| Field::select("whose", "Seen by", whose.into())),
        group,
        description,
        schema,
        example,
        deprecated,
        breaks,
        chrome: Chrome::of(visit, &*title),
        title,
    }
}

/// What may be changed of the type that the query names.
fn own(visit: &Visit) -> Result<std::sync::Arc<EventTypeRecord>, Fault> {
    let record = described(visit)?;
    let origin = if record.tenant_id.is_some() { Origin::Tenant } else { Origin::Platform };
    Some(record).filter(|_| may_change(visit, origin)).ok_or(Fault::NotFound)
}

async fn new(visit: Visit) -> Result<Answer, Fault> {
    visit.tenant()?;
    Answer::page(&page(&visit, None, &Filled::default(), (&Errors::none(), Vec::new())))
}

async fn create(visit: Visit) -> Result<Answer, Fault> {
    let tenant = visit.tenant()?.record.id;
    let is_everybodys = visit.form.text("whose") == "platform" && visit.principal().is_platform();
    let whose = Some(tenant).filter(|_| !is_everybodys);
    let filled = Filled::sent(&visit);
    let known = visit.app().catalog.event_type(whose, &filled.name);
    if known.is_some_and(|known| known.tenant_id == whose) {
        let errors = Errors::one("name", "This type is described already: edit it instead.");
        return Answer::unfit(&page(&visit, None, &filled, (&errors, Vec::new())));
    }
    put(&visit, whose, None, &filled).await
}

async fn edit(visit: Visit) -> Result<Answer, Fault> {
    let record = own(&visit)?;
    Answer::page(&page(&visit, Some(&record), &Filled::of(&record), (&Errors::none(), Vec::new())))
}

async fn change(visit: Visit) -> Result<Answer, Fault> {
    let record = own(&visit)?;
    let filled = Filled { name: record.name.clone(), ..Filled::sent(&visit) };
    put(&visit, record.tenant_id, Some(&record), &filled).await
}

async fn put(
    visit: &Visit,
    whose: Option<TenantId>,
    before: Option<&EventTypeRecord>,
    filled: &Filled,
) -> Result<Answer, Fault> {
    let said = match filled.description() {
        Ok(said) => said,
        Err(errors) => return Answer::unfit(&page(visit, before, filled, (&errors, Vec::new()))),
    };
    // A schema that accepts less is shown first, and taken when that is said.
    let is_accepted = !visit.form.text("accept").is_empty();
    let compatibility = if is_accepted { Compatibility::Warn } else { Compatibility::Block };
    match event_types::put(visit.app(), whose, &filled.name, (said, compatibility), &visit.actor()).await {
        Ok((record, _)) => {
            let query = serde_urlencoded::to_string([("name", &record.name)]).unwrap_or_default();
            let flash = Flash::good(format!("{} is saved.", record.name));
            Ok(Answer::to(&format!("{PATH}/type?{query}"))?.saying(flash))
        }
        Err(Rejection::Incompatible(breaks)) => Answer::unfit(&page(visit, before, filled, (&Errors::none(), breaks))),
        Err(rejection) => {
            let errors = Errors::of(rejection)?;
            Answer::unfit(&page(visit, before, filled, (&errors, Vec::new())))
        }
    }
}

#[derive(Template)]
#[template(path = "event_type_delete.html")]
struct DeletePage {
    chrome: Chrome,
    name: String,
    action: String,
    back: String,
}

async fn ask(visit: Visit) -> Result<Answer, Fault> {
    let record = own(&visit)?;
    let query = serde_urlencoded::to_string([("name", &record.name)]).unwrap_or_default();
    Answer::page(&DeletePage {
        name: record.name.clone(),
        action: format!("{PATH}/delete?{query}"),
        back: format!("{PATH}/type?{query}"),
        chrome: Chrome::of(&visit, "Forget an event type"),
    })
}

async fn delete(visit: Visit) -> Result<Answer, Fault> {
    let record = own(&visit)?;
    event_types::delete(visit.app(), record.tenant_id, &record.name, &visit.actor()).await?;
    Ok(Answer::to(PATH)?.saying(Flash::good(format!("{} is forgotten.", record.name))))
}
