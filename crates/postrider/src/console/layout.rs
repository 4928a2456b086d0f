//! What every page has around it: navigation, the tenant that is looked at, who is logged in, and what was just done.

use super::flash::Flash;
use super::kit::{self, Html};
use super::realm::Realm;
use super::visit::Visit;
use super::{Console, csrf};
use crate::auth::{Member, Permission};

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Theme {
    /// As the reader's system has it.
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    pub(super) fn of(name: Option<&str>) -> Theme {
        match name {
            Some("light") => Theme::Light,
            Some("dark") => Theme::Dark,
            _ => Theme::System,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Theme::System => "system",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }
}

/// Where a page can be gone to from any other.
struct Place {
    label: &'static str,
    path: &'static str,
    /// To whom it is shown.
    to: To,
}

#[derive(Clone, Copy)]
enum To {
    Everybody,
    WhoMay(Permission),
    PlatformAdmins,
}

const fn place(label: &'static str, path: &'static str, needs: Permission) -> Place {
    Place { label, path, to: To::WhoMay(needs) }
}

const fn platform(label: &'static str, path: &'static str) -> Place {
    Place { label, path, to: To::PlatformAdmins }
}

/// The navigation, group by group. A page that is added gets its line here.
const PLACES: &[(&str, &[Place])] = &[
    ("", &[place("Overview", "/settings/overview", Permission::StatsRead)]),
    (
        "Deliver",
        &[
            place("Webhooks", "/settings/webhooks", Permission::WebhooksRead),
            place("Events", "/settings/events", Permission::EventsRead),
            place("Deliveries", "/settings/deliveries", Permission::DeliveriesRead),
            place("Event types", "/settings/event-types", Permission::EventTypesRead),
            place("Portal links", "/settings/portal", Permission::PortalWrite),
        ],
    ),
    ("Receive", &[place("Receivers", "/settings/receivers", Permission::WebhooksRead)]),
    (
        "Data gateway",
        &[
            platform("Clients", "/settings/clients"),
            platform("Public routes", "/settings/routes"),
            platform("Tenant hostnames", "/settings/hostnames"),
        ],
    ),
    (
        "Team",
        &[
            place("Members", "/settings/members", Permission::MembersRead),
            place("API keys", "/settings/api-keys", Permission::KeysRead),
            place("Audit log", "/settings/audit-log", Permission::AuditRead),
        ],
    ),
    (
        "Platform",
        &[
            Place { label: "Tenants", path: "/settings/tenants", to: To::PlatformAdmins },
            Place { label: "Users", path: "/settings/users", to: To::PlatformAdmins },
            Place { label: "System health", path: "/settings/system", to: To::PlatformAdmins },
        ],
    ),
    ("You", &[Place { label: "Profile", path: "/settings/profile", to: To::Everybody }]),
];

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub label: &'static str,
    pub items: Vec<Item>,
}

#[derive(Clone, Debug)]
pub(super) struct Item {
    pub label: &'static str,
    pub path: &'static str,
    pub is_current: bool,
}

/// Whoever is logged in, as the layout shows it.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub name: String,
    pub email: String,
    pub role: String,
    /// `None`: a member of nothing.
    pub tenant: Option<String>,
    /// Whether there is another tenant to turn to.
    pub may_switch: bool,
}

/// What is around a page. Every page's template has it as `chrome`.
#[derive(Clone, Debug)]
pub(super) struct Chrome {
    pub title: String,
    /// Where the pages begin: `/settings` or `/portal`.
    pub base: &'static str,
    pub brand: String,
    /// Address of the picture beside it.
    pub logo: String,
    /// Address of the stylesheet with the portal's colours.
    pub accent: Option<String>,
    pub is_portal: bool,
    /// In the portal: the tenant's name.
    pub guest_of: Option<String>,
    pub style: String,
    pub script: String,
    pub htmx: String,
    pub icon: String,
    pub theme: Theme,
    pub groups: Vec<Group>,
    /// `None`: nobody is logged in, or it is the portal.
    pub person: Option<Person>,
    pub flash: Option<Flash>,
    pub csrf: Html,
    /// For `hx-headers`.
    pub htmx_headers: String,
}

impl Chrome {
    /// Around the page that answers `visit`.
    pub(super) fn of(visit: &Visit, title: impl Into<String>) -> Chrome {
        Chrome { flash: visit.said().cloned(), ..Chrome::quiet(visit).titled(title) }
    }

    /// The same, which leaves what is to be said to another page.
    pub(super) fn quiet(visit: &Visit) -> Chrome {
        let theme = visit.jar.get(super::cookies::Cookie::Theme, &visit.parts);
        let path = visit.parts.uri.path();
        let header = serde_json::json!({ csrf::HEADER: visit.csrf_token() });
        Chrome {
            groups: if visit.signed_in.is_some() { groups(visit, path) } else { Vec::new() },
            person: visit.signed_in.as_ref().and_then(|one| Some(person(visit, one.member.as_ref()?))),
            guest_of: visit.signed_in.as_ref().filter(|one| one.member.is_none()).map(|_| tenant_name(visit)),
            csrf: visit.csrf(),
            htmx_headers: header.to_string(),
            ..Chrome::blank(&visit.console, visit.jar.realm, Theme::of(theme))
        }
    }

    /// Where nobody is known.
    pub(super) fn blank(console: &Console, realm: Realm, theme: Theme) -> Chrome {
        let (assets, portal) = (&console.assets, &console.app.config.portal);
        let is_portal = realm == Realm::Portal;
        Chrome {
            title: String::new(),
            base: realm.base(),
            brand: if is_portal { portal.name.clone() } else { "Postrider".to_owned() },
            logo: if is_portal { assets.logo() } else { assets.icon() },
            accent: if is_portal { assets.accent() } else { None },
            is_portal,
            guest_of: None,
            style: assets.style(),
            script: assets.script(),
            htmx: assets.htmx(),
            icon: assets.icon(),
            theme,
            groups: Vec::new(),
            person: None,
            flash: None,
            csrf: kit::hidden(csrf::FIELD, ""),
            htmx_headers: "{}".to_owned(),
        }
    }

    /// Whether there is somebody to show pages to.
    pub(super) fn is_inside(&self) -> bool {
        self.person.is_some() || self.guest_of.is_some()
    }

    pub(super) fn titled(mut self, title: impl Into<String>) -> Chrome {
        self.title = title.into();
        self
    }
}

/// The portal's navigation.
const PORTAL_PLACES: &[(&str, &[Place])] = &[(
    "Webhooks",
    &[
        place("Webhooks", "/portal/webhooks", Permission::WebhooksRead),
        place("Event types", "/portal/event-types", Permission::EventTypesRead),
    ],
)];

fn groups(visit: &Visit, path: &str) -> Vec<Group> {
    let places = if visit.is_portal() { PORTAL_PLACES } else { PLACES };
    let is_below =
        |place: &Place| path.strip_prefix(place.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let groups = places.iter().map(|(label, places)| {
        let shown = places.iter().filter(|place| match place.to {
            To::Everybody => true,
            To::WhoMay(permission) => visit.may(permission),
            To::PlatformAdmins => visit.principal().is_platform(),
        });
        let items = shown.map(|place| Item { label: place.label, path: place.path, is_current: is_below(place) });
        Group { label, items: items.collect() }
    });
    groups.filter(|group| !group.items.is_empty()).collect()
}

fn tenant_name(visit: &Visit) -> String {
    visit.tenant().map(|tenant| tenant.record.name.clone()).unwrap_or_default()
}

fn person(visit: &Visit, member: &Member) -> Person {
    let app = visit.app();
    let tenant = member.tenant.and_then(|tenant| app.catalog.tenant(tenant));
    let role = if member.user.is_platform_admin { "platform admin" } else { crate::auth::role_name(member.role) };
    Person {
        name: member.user.name.clone(),
        email: member.user.email.clone(),
        role: role.to_owned(),
        tenant: tenant.map(|tenant| tenant.record.name.clone()),
        may_switch: member.user.is_platform_admin || member.user.memberships.len() > 1,
    }
}
