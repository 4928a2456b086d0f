//! Which statements change the schema, for the events `schema_*`.

use sqlparser::ast::{AlterTableOperation, ObjectName, ObjectNamePart, ObjectType, Query, SetExpr, Statement};

/// A kind of change, named as its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SchemaKind {
    TableCreated,
    TableDropped,
    ViewCreated,
    ViewDropped,
    ColumnAdded,
    ColumnDropped,
    ColumnRenamed,
    ColumnAltered,
    IndexCreated,
    IndexDropped,
    ExtensionInstalled,
}

impl SchemaKind {
    /// The `route_key` of its event.
    pub fn as_str(self) -> &'static str {
        match self {
            SchemaKind::TableCreated => "schema_table_created",
            SchemaKind::TableDropped => "schema_table_dropped",
            SchemaKind::ViewCreated => "schema_view_created",
            SchemaKind::ViewDropped => "schema_view_dropped",
            SchemaKind::ColumnAdded => "schema_column_added",
            SchemaKind::ColumnDropped => "schema_column_dropped",
            SchemaKind::ColumnRenamed => "schema_column_renamed",
            SchemaKind::ColumnAltered => "schema_column_altered",
            SchemaKind::IndexCreated => "schema_index_created",
            SchemaKind::IndexDropped => "schema_index_dropped",
            SchemaKind::ExtensionInstalled => "schema_extension_installed",
        }
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    pub kind: SchemaKind,
    /// The table or view, as the database stores its name, with its schema where one was written. Of an index that is
    /// dropped, and of an extension, the object's own name.
    pub name: String,
    /// The columns of a `schema_column_*`; of a renamed one the old name.
    pub columns: Vec<String>,
}

pub(super) fn changes(statement: &Statement) -> Vec<SchemaChange> {
    let one = |kind, name: String| vec![SchemaChange { kind, name, columns: Vec::new() }];
    match statement {
        Statement::CreateTable(create) => one(SchemaKind::TableCreated, name(&create.name)),
        Statement::CreateVirtualTable { name: table, .. } => one(SchemaKind::TableCreated, name(table)),
        Statement::CreateView(create) => one(SchemaKind::ViewCreated, name(&create.name)),
        Statement::CreateIndex(create) => one(SchemaKind::IndexCreated, name(&create.table_name)),
        Statement::CreateExtension(create) => one(SchemaKind::ExtensionInstalled, stored(&create.name)),
        Statement::Query(query) => made(query).map_or_else(Vec::new, |table| one(SchemaKind::TableCreated, table)),
        Statement::Drop { object_type, names, .. } => {
            let kind = match object_type {
                ObjectType::Table => SchemaKind::TableDropped,
                ObjectType::View | ObjectType::MaterializedView => SchemaKind::ViewDropped,
                ObjectType::Index => SchemaKind::IndexDropped,
                _ => return Vec::new(),
            };
            names.iter().flat_map(|dropped| one(kind, name(dropped))).collect()
        }
        Statement::AlterTable(alter) => {
            let table = name(&alter.name);
            let changed = alter.operations.iter().filter_map(column_change);
            changed.map(|(kind, columns)| SchemaChange { kind, name: table.clone(), columns }).collect()
        }
        _ => Vec::new(),
    }
}

fn column_change(operation: &AlterTableOperation) -> Option<(SchemaKind, Vec<String>)> {
    Some(match operation {
        AlterTableOperation::AddColumn { column_def, .. } => (SchemaKind::ColumnAdded, vec![stored(&column_def.name)]),
        AlterTableOperation::DropColumn { column_names, .. } => {
            (SchemaKind::ColumnDropped, column_names.iter().map(stored).collect())
        }
        AlterTableOperation::RenameColumn { old_column_name, .. } => {
            (SchemaKind::ColumnRenamed, vec![stored(old_column_name)])
        }
        AlterTableOperation::AlterColumn { column_name, .. } => (SchemaKind::ColumnAltered, vec![stored(column_name)]),
        _ => return None,
    })
}

/// The table of a `SELECT INTO`.
fn made(query: &Query) -> Option<String> {
    match query.body.as_ref() {
        SetExpr::Select(select) => match select.into.as_ref()?.targets.first()? {
            sqlparser::ast::Expr::Identifier(table) => Some(stored(table)),
            sqlparser::ast::Expr::CompoundIdentifier(parts) => {
                Some(parts.iter().map(stored).collect::<Vec<_>>().join("."))
            }
            _ => None,
        },
        _ => None,
    }
}

fn name(name: &ObjectName) -> String {
    let part = |part: &ObjectNamePart| part.as_ident().map(stored).unwrap_or_default();
    name.0.iter().map(part).collect::<Vec<_>>().join(".")
}

/// What is not quoted is stored in lower case.
fn stored(name: &sqlparser::ast::Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}
