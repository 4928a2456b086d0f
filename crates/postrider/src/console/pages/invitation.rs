//! Accepting an invitation, and choosing a new password: a link of one use and a password.

use askama::Template;
use postrider_core::limits::NAME_CHARS_MAX;
use postrider_core::signing::Secret;

use super::{login, set_up};
pub(super) use crate::accounts::links::path;
use crate::accounts::sessions;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::Field;
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::users;
use crate::store::{LinkKind, UserRecord};

pub(super) fn routes() -> Vec<Route> {
    let invitation = LinkKind::Invitation;
    let reset = LinkKind::PasswordReset;
    vec![
        Route::get("/invite/{token}", Access::Open, move |visit| form(visit, invitation)),
        Route::post("/invite/{token}", Access::Open, move |visit| choose(visit, invitation)),
        Route::get("/reset/{token}", Access::Open, move |visit| form(visit, reset)),
        Route::post("/reset/{token}", Access::Open, move |visit| choose(visit, reset)),
    ]
}

#[derive(Template)]
#[template(path = "invitation.html")]
struct Page {
    chrome: Chrome,
    action: String,
    is_invitation: bool,
    problem: Option<String>,
    email: String,
    tenants: String,
    name: Field,
    password: Field,
}

fn page(visit: &Visit, kind: LinkKind, user: &UserRecord, errors: &Errors) -> Page {
    let is_invitation = kind == LinkKind::Invitation;
    let tenants = user.memberships.keys().filter_map(|id| visit.app().catalog.tenant(*id));
    let names: Vec<_> = tenants.map(|tenant| tenant.record.name.clone()).collect();
    let given = visit.form.given("name").unwrap_or(if user.name == user.email { "" } else { &user.name });
    let name = Field::line("name", "Your name").autocomplete("name").longest(NAME_CHARS_MAX).required();
    Page {
        chrome: Chrome::of(visit, if is_invitation { "Accept the invitation" } else { "New password" }),
        action: visit.parts.uri.path().to_owned(),
        is_invitation,
        problem: errors.beside(&["name", "password"]).map(str::to_owned),
        email: user.email.clone(),
        tenants: names.join(", "),
        name: name.value(given).error(errors.at("name")),
        password: set_up::new_password("password", "Choose a password").error(errors.at("password")).focused(),
    }
}

async fn form(visit: Visit, kind: LinkKind) -> Result<Answer, Fault> {
    let user = users::linked(visit.app(), kind, visit.path_text("token")).await?;
    Answer::page(&page(&visit, kind, &user, &Errors::none()))
}

async fn choose(visit: Visit, kind: LinkKind) -> Result<Answer, Fault> {
    let user = users::linked(visit.app(), kind, visit.path_text("token")).await?;
    let name = (kind == LinkKind::Invitation).then(|| visit.form.text("name"));
    let password = Secret::new(visit.form.text("password").to_owned());
    let link = (kind, visit.path_text("token"));
    match users::choose_password(visit.app(), link, name, password, &visit.actor()).await {
        Ok(user) => {
            let (session, token) = sessions::begin(visit.app(), &user, &visit.place(), "link").await?;
            let told = if kind == LinkKind::Invitation { "Welcome!" } else { "Your password is changed." };
            Ok(login::enter(&session, &token, "/settings")?.saying(Flash::good(told)))
        }
        Err(rejection) => Answer::unfit(&page(&visit, kind, &user, &Errors::of(rejection)?)),
    }
}
