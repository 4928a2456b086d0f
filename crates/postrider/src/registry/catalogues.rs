//! Catalogues of event types that come with Postrider: those of the contracts that it speaks, and of its own events.
//! Each is a file of data; `postrider event-types install` describes its types on a server.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A named set of event types.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub name: String,
    /// One line for people.
    pub title: String,
    pub types: Vec<CatalogueType>,
}

/// One type, as the API takes it but for the name.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueType {
    #[serde(skip_serializing)]
    pub name: String,
    pub group: String,
    pub description: String,
    pub schema: Value,
    pub example: Value,
}

const FILES: [&str; 6] = [
    include_str!("catalogues/alumia.json"),
    include_str!("catalogues/athena.json"),
    include_str!("catalogues/athenatext.json"),
    include_str!("catalogues/athenty.json"),
    include_str!("catalogues/postrider.json"),
    include_str!("catalogues/scaikey.json"),
];

static ALL: LazyLock<Vec<Catalogue>> =
    LazyLock::new(|| FILES.iter().map(|text| serde_json::from_str(text).expect("a test reads every file")).collect());

/// Every catalogue, by name.
pub fn all() -> &'static [Catalogue] {
    &ALL
}

pub fn find(name: &str) -> Option<&'static Catalogue> {
    all().iter().find(|catalogue| catalogue.name == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use postrider_core::subscription::{check_event_type, is_reserved};

    use super::*;
    use crate::event_schema::EventSchema;

    #[test]
    fn every_type_of_every_catalogue_can_be_described_and_accepts_its_example() {
        for catalogue in all() {
            let mut names = BTreeSet::new();
            for one in &catalogue.types {
                check_event_type(&one.name).unwrap();
                assert!(names.insert(&one.name), "{} is there twice", one.name);
                assert_eq!(is_reserved(&one.name), catalogue.name == "postrider");
                let schema = EventSchema::compile(&one.schema).unwrap();
                assert_eq!(schema.misfit_of_one(&one.example), None, "{}", one.name);
                if one.schema != serde_json::json!({ "type": "object" }) {
                    assert!(schema.misfit_of_one(&serde_json::json!({})).is_some(), "{} asks for nothing", one.name);
                }
            }
        }
        let names: Vec<_> = all().iter().map(|catalogue| catalogue.name.as_str()).collect();
        assert!(names.is_sorted(), "{names:?}");
    }

    /// The names that the contracts list, word for word.
    #[test]
    fn the_catalogues_hold_what_the_contracts_name() {
        let named: [(&str, &[&str]); 3] = [
            (
                "athenatext",
                &[
                    "message.received",
                    "message.delivered",
                    "lead.qualified",
                    "lead.opted_out",
                    "conversation.completed",
                    "agent.requested",
                ],
            ),
            (
                "athenty",
                &[
                    "request.created",
                    "request.approved",
                    "request.rejected",
                    "request.expired",
                    "envelope.completed",
                    "envelope.declined",
                    "matter.created",
                    "matter.updated",
                    "client.created",
                    "user.invited",
                    "user.deactivated",
                ],
            ),
            (
                "scaikey",
                &[
                    "partner.created",
                    "partner.updated",
                    "partner.deleted",
                    "tenant.created",
                    "tenant.updated",
                    "tenant.deleted",
                    "user.created",
                    "user.updated",
                    "user.deleted",
                    "user.suspended",
                    "user.activated",
                    "user.password_changed",
                    "user.mfa_enabled",
                    "user.mfa_disabled",
                    "group.created",
                    "group.updated",
                    "group.deleted",
                    "group.member_added",
                    "group.member_removed",
                    "application.user_assigned",
                    "application.user_unassigned",
                    "application.group_assigned",
                    "application.group_unassigned",
                ],
            ),
        ];
        for (catalogue, names) in named {
            let own: Vec<&str> = find(catalogue).unwrap().types.iter().map(|one| one.name.as_str()).collect();
            for name in names {
                assert!(own.contains(name), "{catalogue} lacks {name}");
            }
        }
        for family in ["session.", "registration.", "authentication."] {
            assert!(find("scaikey").unwrap().types.iter().any(|one| one.name.starts_with(family)), "{family}");
        }
        assert_eq!(find("athena").unwrap().types.len(), 21);
        assert!(find("none").is_none());
    }
}
