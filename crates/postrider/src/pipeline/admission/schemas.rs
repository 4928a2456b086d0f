//! Schemas of event types, compiled once per change and kept while there is room.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use postrider_core::ids::TenantId;
use postrider_core::limits::SCHEMAS_HELD_BYTES_MAX;

use crate::catalog::Catalog;
use crate::event_schema::EventSchema;
use crate::store::EventTypeRecord;

#[derive(Debug)]
pub(super) struct Schemas {
    catalog: Arc<Catalog>,
    held: RwLock<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// By who described the type, and its name.
    compiled: HashMap<(Option<TenantId>, String), Compiled>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Compiled {
    /// What it was compiled from: another record means that the type has changed.
    record: Arc<EventTypeRecord>,
    /// `None`: it cannot be used; the cause was logged.
    schema: Option<Arc<EventSchema>>,
}

impl Compiled {
    fn bytes(&self) -> usize {
        // What the entry itself takes, too.
        self.schema.as_ref().map_or(0, |schema| schema.bytes) + 1024
    }
}

impl Schemas {
    pub(super) fn new(catalog: Arc<Catalog>) -> Schemas {
        Schemas { catalog, held: RwLock::default() }
    }

    /// The schema of a type as the tenant sees it, if it has one.
    pub(super) fn of(&self, tenant: TenantId, event_type: &str) -> Option<Arc<EventSchema>> {
        let record = self.catalog.event_type(Some(tenant), event_type)?;
        let schema = record.schema.as_ref()?;
        let key = (record.tenant_id, record.name.clone());
        if let Some(known) = self.held.read().compiled.get(&key).filter(|known| Arc::ptr_eq(&known.record, &record)) {
            return known.schema.clone();
        }
        // Two at once compile it twice, which does no harm.
        let schema = match EventSchema::compile(schema) {
            Ok(schema) => Some(Arc::new(schema)),
            Err(error) => {
                tracing::warn!(event_type, %error, "a schema from before cannot be used; its events are not checked");
                None
            }
        };
        self.held.write().insert(key, Compiled { record, schema: schema.clone() });
        schema
    }
}

impl Held {
    fn insert(&mut self, key: (Option<TenantId>, String), compiled: Compiled) {
        self.bytes += compiled.bytes();
        if let Some(former) = self.compiled.insert(key.clone(), compiled) {
            self.bytes -= former.bytes();
        }
        // Any other will do: what is used is soon compiled again.
        while self.bytes > SCHEMAS_HELD_BYTES_MAX
            && let Some(other) = self.compiled.keys().find(|other| **other != key).cloned()
        {
            if let Some(gone) = self.compiled.remove(&other) {
                self.bytes -= gone.bytes();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use postrider_core::time::UnixMs;
    use serde_json::{Value, json};

    use super::*;

    fn described(name: &str, schema: Value) -> EventTypeRecord {
        EventTypeRecord {
            tenant_id: None,
            name: name.to_owned(),
            group: None,
            description: None,
            schema: Some(schema),
            example: None,
            deprecated: false,
            created_at: UnixMs(0),
            updated_at: UnixMs(0),
        }
    }

    const TENANT: TenantId = TenantId(uuid::Uuid::max());

    #[test]
    fn a_schema_is_compiled_once_per_change() {
        let catalog = Arc::new(Catalog::default());
        let schemas = Schemas::new(catalog.clone());
        assert!(schemas.of(TENANT, "a").is_none());
        catalog.put_event_type(described("a", json!({ "type": "string" })));
        let first = schemas.of(TENANT, "a").unwrap();
        assert!(Arc::ptr_eq(&first, &schemas.of(TENANT, "a").unwrap()));
        catalog.put_event_type(described("a", json!({ "type": "integer" })));
        let second = schemas.of(TENANT, "a").unwrap();
        assert_eq!(second.misfit_of_one(&json!(1)), None);
        assert_eq!(schemas.held.read().bytes, second.bytes + 1024, "the former one is not counted any more");
    }

    #[test]
    fn a_schema_that_cannot_be_used_is_looked_at_once() {
        let catalog = Arc::new(Catalog::default());
        let schemas = Schemas::new(catalog.clone());
        catalog.put_event_type(described("a", json!({ "pattern": "(?=a)" })));
        assert!(schemas.of(TENANT, "a").is_none());
        assert_eq!(schemas.held.read().compiled.len(), 1);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let catalog = Arc::new(Catalog::default());
        let schemas = Schemas::new(catalog.clone());
        let patterns: Vec<Value> = (0..64).map(|n| json!({ "pattern": format!("a{n}") })).collect();
        // Of these, each counts for sixteen MiB.
        for n in 0..20 {
            let name = format!("t{n}");
            catalog.put_event_type(described(&name, json!({ "allOf": patterns })));
            assert!(schemas.of(TENANT, &name).is_some());
            let held = schemas.held.read();
            assert!(held.bytes <= SCHEMAS_HELD_BYTES_MAX, "{}", held.bytes);
            assert!(held.compiled.contains_key(&(None, name)), "the newest stays");
        }
        assert!(schemas.held.read().compiled.len() < 17);
    }
}
