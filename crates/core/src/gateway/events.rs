//! The operations that fire webhooks, in the order in which they are listed.

/// One kind of operation that a gateway webhook can be registered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayEvent {
    pub route_key: &'static str,
    /// `gateway`, `rest` or `schema`.
    pub category: &'static str,
    pub title: &'static str,
    pub description: &'static str,
    /// Whether an operation of this kind is about one table, so that a webhook can be registered for one.
    pub table_scope_supported: bool,
}

const fn event(
    (category, route_key, table_scope_supported): (&'static str, &'static str, bool),
    title: &'static str,
    description: &'static str,
) -> GatewayEvent {
    GatewayEvent { route_key, category, title, description, table_scope_supported }
}

/// All of them, in the contract's order.
pub const EVENTS: [GatewayEvent; 21] = [
    event(
        ("gateway", "gateway_data", true),
        "Data fetched",
        "Rows were fetched by POST /gateway/data, the other name of /gateway/fetch.",
    ),
    event(("gateway", "gateway_fetch", true), "Rows fetched", "Rows were fetched by POST /gateway/fetch."),
    event(("gateway", "gateway_update", true), "Rows updated", "Rows were changed by POST /gateway/update."),
    event(("gateway", "gateway_query", false), "Query executed", "SQL was executed by POST /gateway/query."),
    event(("gateway", "gateway_insert", true), "Row inserted", "A row was added by PUT /gateway/insert."),
    event(("gateway", "gateway_delete", true), "Row deleted", "A row was removed by DELETE /gateway/delete."),
    event(("rest", "rest_get", true), "REST rows read", "Rows were read by GET /rest/v1."),
    event(("rest", "rest_post", true), "REST rows added", "Rows were added by POST /rest/v1."),
    event(("rest", "rest_patch", true), "REST rows changed", "Rows were changed by PATCH /rest/v1."),
    event(("rest", "rest_delete", true), "REST rows removed", "Rows were removed by DELETE /rest/v1."),
    event(("schema", "schema_table_created", true), "Table created", "A query created a table."),
    event(("schema", "schema_table_dropped", true), "Table dropped", "A query dropped a table."),
    event(("schema", "schema_view_created", true), "View created", "A query created a view."),
    event(("schema", "schema_view_dropped", true), "View dropped", "A query dropped a view."),
    event(("schema", "schema_column_added", true), "Column added", "A query added a column to a table."),
    event(("schema", "schema_column_dropped", true), "Column dropped", "A query dropped a column of a table."),
    event(("schema", "schema_column_renamed", true), "Column renamed", "A query renamed a column of a table."),
    event(
        ("schema", "schema_column_altered", true),
        "Column altered",
        "A query changed the type, the default or the constraints of a column.",
    ),
    event(("schema", "schema_index_created", true), "Index created", "A query created an index."),
    event(("schema", "schema_index_dropped", false), "Index dropped", "A query dropped an index."),
    event(("schema", "schema_extension_installed", false), "Extension installed", "A query installed an extension."),
];

/// The kind of operation with this key, if there is one.
pub fn find(route_key: &str) -> Option<&'static GatewayEvent> {
    EVENTS.iter().find(|event| event.route_key == route_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::check_event_type;

    #[test]
    fn the_catalogue_is_the_contracts_in_its_order() {
        let keys: Vec<&str> = EVENTS.iter().map(|event| event.route_key).collect();
        let documented = "gateway_data, gateway_fetch, gateway_update, gateway_query, gateway_insert, gateway_delete, \
            rest_get, rest_post, rest_patch, rest_delete, schema_table_created, schema_table_dropped, \
            schema_view_created, schema_view_dropped, schema_column_added, schema_column_dropped, \
            schema_column_renamed, schema_column_altered, schema_index_created, schema_index_dropped, \
            schema_extension_installed";
        assert_eq!(keys.join(", "), documented);
        let unscoped: Vec<&str> =
            EVENTS.iter().filter(|event| !event.table_scope_supported).map(|event| event.route_key).collect();
        assert_eq!(unscoped, ["gateway_query", "schema_index_dropped", "schema_extension_installed"]);
        for event in EVENTS {
            assert!(event.route_key.starts_with(&format!("{}_", event.category)), "{event:?}");
            assert!(!event.title.is_empty() && event.description.ends_with('.'), "{event:?}");
            // A firing is an event of this type.
            assert!(check_event_type(event.route_key).is_ok());
            assert_eq!(find(event.route_key), Some(&event));
        }
        assert_eq!(find("gateway_upsert"), None);
    }
}
