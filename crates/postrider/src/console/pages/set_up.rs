//! The first user, by the link that `serve` prints.

use askama::Template;
use postrider_core::limits::{EMAIL_BYTES_MAX, NAME_CHARS_MAX, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};
use postrider_core::signing::Secret;

use super::login;
use crate::accounts::{links, sessions};
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::Field;
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::users::{self, FirstUser};
use crate::store::LinkKind;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/setup/{token}", Access::Open, form), Route::post("/setup/{token}", Access::Open, set_up)]
}

#[derive(Template)]
#[template(path = "set_up.html")]
struct Page {
    chrome: Chrome,
    action: String,
    problem: Option<String>,
    name: Field,
    email: Field,
    organisation: Option<Field>,
    password: Field,
}

fn page(visit: &Visit, errors: &Errors) -> Page {
    let value = |name: &str| visit.form.text(name).to_owned();
    let wants_tenant = visit.app().catalog.tenants().is_empty();
    let organisation = Field::line("organisation", "Organisation")
        .hint("Your first tenant: webhooks, events and members belong to one.")
        .value(value("organisation"))
        .error(errors.at("organisation"))
        .autocomplete("organization")
        .longest(NAME_CHARS_MAX)
        .required();
    let name = Field::line("name", "Your name").autocomplete("name").longest(NAME_CHARS_MAX).required().focused();
    Page {
        chrome: Chrome::of(visit, "Set up"),
        action: visit.parts.uri.path().to_owned(),
        problem: errors.beside(&["name", "email", "organisation", "password"]).map(str::to_owned),
        name: name.value(value("name")).error(errors.at("name")),
        email: Field::email("email", "E-mail")
            .value(value("email"))
            .error(errors.at("email"))
            .longest(EMAIL_BYTES_MAX)
            .required(),
        organisation: wants_tenant.then_some(organisation),
        password: new_password("password", "Password").error(errors.at("password")),
    }
}

/// A field for a password that is chosen.
pub(super) fn new_password(name: &'static str, label: &str) -> Field {
    let hint = format!("At least {PASSWORD_CHARS_MIN} characters. A few words make a good one.");
    Field::password(name, label, "new-password").hint(hint).longest(PASSWORD_CHARS_MAX).required()
}

async fn check(visit: &Visit) -> Result<(), Fault> {
    let link = links::look(visit.app(), LinkKind::SetUp, visit.path_text("token")).await?;
    link.filter(|_| !visit.app().catalog.has_users()).map(drop).ok_or(Fault::NotFound)
}

async fn form(visit: Visit) -> Result<Answer, Fault> {
    check(&visit).await?;
    Answer::page(&page(&visit, &Errors::none()))
}

async fn set_up(visit: Visit) -> Result<Answer, Fault> {
    check(&visit).await?;
    let text = |name: &str| visit.form.text(name).to_owned();
    let first = FirstUser {
        name: text("name"),
        email: text("email"),
        password: Secret::new(text("password")),
        organisation: text("organisation"),
    };
    match users::set_up(visit.app(), visit.path_text("token"), first, &visit.actor()).await {
        Ok(user) => {
            let (session, token) = sessions::begin(visit.app(), &user, &visit.place(), "password").await?;
            Ok(login::enter(&session, &token, "/settings")?.saying(Flash::good("Postrider is set up. Welcome!")))
        }
        Err(rejection) => Answer::unfit(&page(&visit, &Errors::of(rejection)?)),
    }
}
