//! Event types: what a publisher says about the events it sends. What its tenant makes of events that do not fit is one of
//! the tenant's settings.

use postrider_core::ids::TenantId;
use postrider_core::limits::{DESCRIPTION_CHARS_MAX, EVENT_TYPE_BYTES_MAX, EVENT_TYPES_MAX};
use postrider_core::subscription::check_event_type;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::compatibility::{self, Break};
use super::{Rejection, Result, audit, check_name, check_text, view};
use crate::app::App;
use crate::event_schema::EventSchema;
use crate::store::{Actor, EventTypeRecord};

/// All that is said of a type; replaces what was said before.
#[derive(Debug)]
pub struct Description {
    pub group: Option<String>,
    pub description: Option<String>,
    pub schema: Option<Value>,
    pub example: Option<Value>,
    pub deprecated: bool,
}

/// What becomes of a schema that accepts less than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compatibility {
    /// It is taken, and the answer says what it no longer accepts.
    #[default]
    Warn,
    /// It is refused.
    Block,
}

/// Describes a type of `tenant`, or of the platform (`None`). Tells what its schema no longer accepts.
pub async fn put(
    app: &App,
    tenant: Option<TenantId>,
    name: &str,
    (said, compatibility): (Description, Compatibility),
    actor: &Actor,
) -> Result<(EventTypeRecord, Vec<Break>)> {
    check(name, &said)?;
    let _changing = app.catalog.changing(&app.store).await?;
    let own: Vec<_> = app.catalog.event_types(tenant).into_iter().filter(|it| it.tenant_id == tenant).collect();
    let before = own.iter().find(|event_type| event_type.name == name);
    let breaks = before.map_or_else(Vec::new, |before| {
        let examples = compatibility::examples(before.schema.as_ref(), before.example.as_ref());
        compatibility::breaks(before.schema.as_ref(), said.schema.as_ref(), &examples)
    });
    if compatibility == Compatibility::Block && !breaks.is_empty() {
        return Err(Rejection::Incompatible(breaks));
    }
    if before.is_none() && own.len() >= EVENT_TYPES_MAX {
        return Err(Rejection::LimitReached(format!("at most {EVENT_TYPES_MAX} event types can be described")));
    }
    let now = app.ambient.now();
    let record = EventTypeRecord {
        tenant_id: tenant,
        name: name.to_owned(),
        group: said.group,
        description: said.description,
        schema: said.schema,
        example: said.example,
        deprecated: said.deprecated,
        created_at: before.map_or(now, |before| before.created_at),
        updated_at: now,
    };
    let action = if before.is_some() { "event_type.updated" } else { "event_type.created" };
    let views = (before.and_then(|before| view(&**before)), view(&record));
    app.store.put_event_type(record.clone(), audit(app, tenant, actor, action, name, views)).await?;
    app.catalog.put_event_type(record.clone());
    Ok((record, breaks))
}

/// Forgets what was said of a type.
pub async fn delete(app: &App, tenant: Option<TenantId>, name: &str, actor: &Actor) -> Result<()> {
    let _changing = app.catalog.changing(&app.store).await?;
    let known = app.catalog.event_type(tenant, name).filter(|event_type| event_type.tenant_id == tenant);
    let before = known.ok_or(Rejection::NotFound("event type"))?;
    let entry = audit(app, tenant, actor, "event_type.deleted", name, (view(&*before), None));
    app.store.delete_event_type(tenant, name, entry).await?;
    app.catalog.remove_event_type(tenant, name);
    Ok(())
}

fn check(name: &str, said: &Description) -> Result<()> {
    check_event_type(name).map_err(|error| Rejection::invalid("name", error.0))?;
    if let Some(group) = &said.group {
        check_name("group", group)?;
        if group.len() > EVENT_TYPE_BYTES_MAX {
            return Err(Rejection::invalid("group", format!("may have at most {EVENT_TYPE_BYTES_MAX} bytes")));
        }
    }
    if let Some(description) = &said.description {
        check_text("description", description, DESCRIPTION_CHARS_MAX)?;
    }
    check_schema(said.schema.as_ref(), said.example.as_ref())
}

/// A schema must be usable, and must accept the example.
fn check_schema(schema: Option<&Value>, example: Option<&Value>) -> Result<()> {
    let Some(schema) = schema else { return Ok(()) };
    let schema = EventSchema::compile(schema).map_err(|error| Rejection::invalid("schema", error.0))?;
    let Some(misfit) = example.and_then(|example| schema.misfit_of_one(example)) else { return Ok(()) };
    let place = if misfit.pointer.is_empty() { String::new() } else { format!(" at {}", misfit.pointer) };
    Err(Rejection::invalid("example", format!("the schema rejects it{place}: {}", misfit.message)))
}

/// The example of a type as the tenant sees it: what a test event of the type carries.
pub fn example(app: &App, tenant: TenantId, name: &str) -> Option<Box<RawValue>> {
    let event_type = app.catalog.event_type(Some(tenant), name)?;
    serde_json::value::to_raw_value(event_type.example.as_ref()?).ok()
}
