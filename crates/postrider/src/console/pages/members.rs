//! Members of a tenant and what they may do.

use askama::Template;
use postrider_core::limits::{EMAIL_BYTES_MAX, NAME_CHARS_MAX};
use postrider_core::signing::Secret;
use uuid::Uuid;

use super::invitation;
use crate::auth::{Permission, Principal, role_name};
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::{Flash, Reveal};
use crate::console::kit::{self, Choice, Field, Html, Mood};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::users::{self, Invitation};
use crate::store::{LinkKind, Role, UserRecord, UserStatus};

const PATH: &str = "/settings/members";

pub(super) fn routes() -> Vec<Route> {
    let write = Access::Needs(Permission::MembersWrite);
    vec![
        Route::get(PATH, Access::Needs(Permission::MembersRead), list),
        Route::get("/settings/members/invite", write, form),
        Route::post("/settings/members/invite", write, invite),
        Route::get("/settings/members/{user}", write, edit),
        Route::post("/settings/members/{user}/role", write, set_role),
        Route::post("/settings/members/{user}/link", write, make_link),
        Route::post("/settings/members/{user}/remove", write, remove),
        Route::post("/settings/members/{user}/deactivate", write, |visit| set_active(visit, false)),
        Route::post("/settings/members/{user}/reactivate", write, |visit| set_active(visit, true)),
    ]
}

/// What a role may do, in a line.
fn meaning(role: Role) -> &'static str {
    match role {
        Role::Owner => "Everything, and makes other Owners.",
        Role::Admin => "Manages webhooks, keys and members; reads the audit log.",
        Role::Member => "Sees everything; sends tests, retries deliveries, publishes events.",
        Role::Viewer => "Sees webhooks, events and deliveries.",
    }
}

const ROLES: [Role; 4] = [Role::Owner, Role::Admin, Role::Member, Role::Viewer];

/// The roles that `by` can give.
fn roles(by: &Principal, chosen: Role) -> Vec<Choice> {
    let given = ROLES.into_iter().filter(|role| *role <= by.role() || *role == chosen);
    let choice = |role: Role| Choice {
        value: role_name(role).to_owned(),
        label: titled(role).to_owned(),
        hint: meaning(role).to_owned(),
        chosen: role == chosen,
    };
    given.map(choice).collect()
}

fn titled(role: Role) -> &'static str {
    match role {
        Role::Owner => "Owner",
        Role::Admin => "Admin",
        Role::Member => "Member",
        Role::Viewer => "Viewer",
    }
}

fn named(name: &str) -> Option<Role> {
    ROLES.into_iter().find(|role| role_name(*role) == name)
}

pub(super) fn status(user: &UserRecord) -> Html {
    match user.status {
        UserStatus::Active => kit::pill(Mood::Good, "Active"),
        UserStatus::Invited => kit::pill(Mood::Warning, "Invited"),
        UserStatus::Deactivated => kit::pill(Mood::Neutral, "Deactivated"),
    }
}

struct Row {
    id: Uuid,
    name: String,
    email: String,
    role: &'static str,
    status: Html,
    is_you: bool,
    is_platform_admin: bool,
    joined: Html,
}

#[derive(Template)]
#[template(path = "members.html")]
struct Page {
    chrome: Chrome,
    tenant: String,
    may_write: bool,
    rows: Vec<Row>,
    revealed: Option<Reveal>,
}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let tenant = visit.tenant()?;
    let members = users::members(visit.app(), tenant.record.id).into_iter();
    let rows = members.map(|(user, role)| Row {
        id: user.id,
        name: user.name.clone(),
        email: user.email.clone(),
        role: titled(role),
        status: status(&user),
        is_you: user.id == visit.member().user.id,
        is_platform_admin: user.is_platform_admin,
        joined: kit::time(user.created_at),
    });
    Answer::page(&Page {
        tenant: tenant.record.name.clone(),
        may_write: visit.may(Permission::MembersWrite),
        rows: rows.collect(),
        revealed: visit.revealed("link"),
        chrome: Chrome::of(&visit, "Members"),
    })
}

// ---- inviting ------------------------------------------------------------------------------------------------------------

#[derive(Template)]
#[template(path = "member_invite.html")]
struct InvitePage {
    chrome: Chrome,
    problem: Option<String>,
    email: Field,
    name: Field,
    role: Field,
}

fn invite_page(visit: &Visit, errors: &Errors) -> InvitePage {
    let chosen = named(visit.form.text("role")).unwrap_or(Role::Member);
    InvitePage {
        chrome: Chrome::of(visit, "Invite a member"),
        problem: errors.beside(&["email", "name", "role"]).map(str::to_owned),
        email: Field::email("email", "E-mail")
            .autocomplete("off")
            .value(visit.form.text("email"))
            .error(errors.at("email"))
            .longest(EMAIL_BYTES_MAX)
            .required()
            .focused(),
        name: Field::line("name", "Name")
            .value(visit.form.text("name"))
            .error(errors.at("name"))
            .longest(NAME_CHARS_MAX),
        role: Field::radios("role", "Role", roles(visit.principal(), chosen)).error(errors.at("role")).required(),
    }
}

async fn form(visit: Visit) -> Result<Answer, Fault> {
    visit.tenant()?;
    Answer::page(&invite_page(&visit, &Errors::none()))
}

async fn invite(visit: Visit) -> Result<Answer, Fault> {
    let tenant_id = visit.tenant()?.record.id;
    let Some(role) = named(visit.form.text("role")) else {
        return Answer::unfit(&invite_page(&visit, &Errors::one("role", "Choose one.")));
    };
    let text = |name: &str| visit.form.text(name).to_owned();
    let wanted = Invitation { tenant_id, email: text("email"), name: text("name"), role };
    match users::invite(visit.app(), visit.principal(), wanted, &visit.actor()).await {
        Ok((user, Some(token))) => Ok(Answer::to(PATH)?.saying(link_made(&visit, LinkKind::Invitation, &user, &token))),
        Ok((user, None)) => {
            let told = match user.status {
                UserStatus::Invited => {
                    format!("{} is a member. The link of the earlier invitation lets them in.", user.email)
                }
                _ => format!("{} is a member now, with the account they have.", user.email),
            };
            Ok(Answer::to(PATH)?.saying(Flash::good(told)))
        }
        Err(rejection) => Answer::unfit(&invite_page(&visit, &Errors::of(rejection)?)),
    }
}

/// Says that there is a link, and shows it this once.
pub(super) fn link_made(visit: &Visit, kind: LinkKind, user: &UserRecord, token: &Secret) -> Flash {
    let told = match kind {
        LinkKind::Invitation => format!("{} is invited.", user.email),
        _ => format!("There is a link for {} to choose a new password.", user.email),
    };
    let address = format!("{}{}", visit.origin(), invitation::path(kind, token));
    Flash::good(told).revealing("link", user.email.clone(), address)
}

// ---- one member ----------------------------------------------------------------------------------------------------------

#[derive(Template)]
#[template(path = "member.html")]
struct MemberPage {
    chrome: Chrome,
    id: Uuid,
    name: String,
    email: String,
    status: Html,
    problem: Option<String>,
    role: Field,
    is_you: bool,
    is_invited: bool,
    is_deactivated: bool,
    reaches_further: bool,
}

fn member_page(visit: &Visit, errors: &Errors) -> Result<MemberPage, Fault> {
    let tenant = visit.tenant()?.record.id;
    let id: Uuid = visit.id("user")?;
    let members = users::members(visit.app(), tenant);
    let (user, role) = members.into_iter().find(|(user, _)| user.id == id).ok_or(Fault::NotFound)?;
    let chosen = named(visit.form.text("role")).unwrap_or(role);
    Ok(MemberPage {
        chrome: Chrome::of(visit, user.name.clone()),
        id,
        name: user.name.clone(),
        email: user.email.clone(),
        status: status(&user),
        problem: errors.beside(&["role"]).map(str::to_owned),
        role: Field::radios("role", "Role", roles(visit.principal(), chosen)).error(errors.at("role")).required(),
        is_you: id == visit.member().user.id,
        is_invited: user.status == UserStatus::Invited,
        is_deactivated: user.status == UserStatus::Deactivated,
        reaches_further: !users::reaches_all_of(visit.principal(), &user),
    })
}

async fn edit(visit: Visit) -> Result<Answer, Fault> {
    Answer::page(&member_page(&visit, &Errors::none())?)
}

/// The tenant and the member that an action is about.
fn about(visit: &Visit) -> Result<(postrider_core::ids::TenantId, Uuid), Fault> {
    Ok((visit.tenant()?.record.id, visit.id("user")?))
}

/// Back to the list if it was done, and else to the form with the reason.
fn done(visit: &Visit, result: crate::registry::Result<Flash>) -> Result<Answer, Fault> {
    match result {
        Ok(flash) => Ok(Answer::to(PATH)?.saying(flash)),
        Err(rejection) => Answer::unfit(&member_page(visit, &Errors::of(rejection)?)?),
    }
}

async fn set_role(visit: Visit) -> Result<Answer, Fault> {
    let Some(role) = named(visit.form.text("role")) else {
        return Answer::unfit(&member_page(&visit, &Errors::one("role", "Choose one."))?);
    };
    let changed = users::set_role(visit.app(), visit.principal(), about(&visit)?, role, &visit.actor()).await;
    done(&visit, changed.map(|user| Flash::good(format!("{} is {} now.", user.email, with_article(role)))))
}

fn with_article(role: Role) -> &'static str {
    match role {
        Role::Owner => "an Owner",
        Role::Admin => "an Admin",
        Role::Member => "a Member",
        Role::Viewer => "a Viewer",
    }
}

async fn make_link(visit: Visit) -> Result<Answer, Fault> {
    let (tenant, id) = about(&visit)?;
    let user = users::get(visit.app(), id)?;
    let made = users::make_link(visit.app(), visit.principal(), (Some(tenant), id), &visit.actor()).await;
    done(&visit, made.map(|(kind, token)| link_made(&visit, kind, &user, &token)))
}

async fn remove(visit: Visit) -> Result<Answer, Fault> {
    let removed = users::remove_member(visit.app(), visit.principal(), about(&visit)?, &visit.actor()).await;
    done(&visit, removed.map(|user| Flash::good(format!("{} is no longer a member.", user.email))))
}

async fn set_active(visit: Visit, active: bool) -> Result<Answer, Fault> {
    let (tenant, id) = about(&visit)?;
    let whom = (Some(tenant), id);
    let changed = users::set_active(visit.app(), visit.principal(), whom, active, &visit.actor()).await;
    let told = if active { "is active again" } else { "is deactivated, and logged out everywhere" };
    done(&visit, changed.map(|user| Flash::good(format!("{} {told}.", user.email))))
}
