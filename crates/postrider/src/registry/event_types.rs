//! Event types: what a publisher says about the events it sends. They document; publishing is not checked by them.

use postrider_core::ids::TenantId;
use postrider_core::limits::{DESCRIPTION_CHARS_MAX, EVENT_TYPE_BYTES_MAX};
use postrider_core::subscription::check_event_type;
use serde_json::Value;

use super::{Rejection, Result, audit, check_name, check_text, view};
use crate::app::App;
use crate::store::{Actor, EventTypeRecord};

/// Event types of one tenant, or of the platform: a bound on what the catalog holds.
pub const EVENT_TYPES_MAX: usize = 2000;

/// All that is said of a type; replaces what was said before.
#[derive(Debug)]
pub struct Description {
    pub group: Option<String>,
    pub description: Option<String>,
    pub schema: Option<Value>,
    pub example: Option<Value>,
    pub deprecated: bool,
}

/// Describes a type of `tenant`, or of the platform (`None`).
pub async fn put(
    app: &App,
    tenant: Option<TenantId>,
    name: &str,
    said: Description,
    actor: &Actor,
) -> Result<EventTypeRecord> {
    check(name, &said)?;
    let _changing = app.catalog.changing(&app.store).await?;
    let own: Vec<_> = app.catalog.event_types(tenant).into_iter().filter(|it| it.tenant_id == tenant).collect();
    let before = own.iter().find(|event_type| event_type.name == name);
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
    Ok(record)
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

/// A schema must be one, must not reach outside itself, and must accept the example.
fn check_schema(schema: Option<&Value>, example: Option<&Value>) -> Result<()> {
    let Some(schema) = schema else { return Ok(()) };
    if !(schema.is_object() || schema.is_boolean()) {
        return Err(Rejection::invalid("schema", "must be a JSON Schema: an object or a boolean"));
    }
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| Rejection::invalid("schema", format!("not a usable JSON Schema: {error}")))?;
    let Some(example) = example else { return Ok(()) };
    validator.validate(example).map_err(|error| {
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
        Rejection::invalid("example", format!("the schema rejects it{place}: {error}"))
    })
}
