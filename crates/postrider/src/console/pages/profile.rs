//! One's own: name, password, sessions.

use askama::Template;
use postrider_core::limits::NAME_CHARS_MAX;
use postrider_core::signing::Secret;
use uuid::Uuid;

use super::set_up::new_password;
use crate::accounts::sessions;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::{self, Field, Html};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::registry::users;
use crate::store::Ending;

const PATH: &str = "/settings/profile";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(PATH, Access::SignedIn, show),
        Route::post("/settings/profile/name", Access::SignedIn, rename),
        Route::post("/settings/profile/password", Access::SignedIn, change_password),
        Route::post("/settings/profile/sessions/{session}/end", Access::SignedIn, end_one),
        Route::post("/settings/profile/sessions/end-others", Access::SignedIn, end_others),
    ]
}

struct Row {
    id: Uuid,
    agent: String,
    address: String,
    began: Html,
    seen: Html,
    is_this: bool,
}

#[derive(Template)]
#[template(path = "profile.html")]
struct Page {
    chrome: Chrome,
    email: String,
    name: Field,
    has_password: bool,
    current: Field,
    password: Field,
    problem: Option<String>,
    rows: Vec<Row>,
}

async fn page(visit: &Visit, errors: &Errors) -> Result<Page, Fault> {
    let member = visit.member();
    let user = visit.app().catalog.user(member.user.id).ok_or(Fault::SignIn)?;
    let sessions = visit.app().store.sessions(user.id, visit.app().ambient.now()).await?;
    let rows = sessions.into_iter().map(|session| Row {
        id: session.id,
        agent: session.agent.as_deref().map_or_else(|| "Unknown browser".to_owned(), browser),
        address: session.address.map_or_else(|| "unknown address".to_owned(), |address| address.to_string()),
        began: kit::time(session.created_at),
        seen: kit::time(session.seen_at),
        is_this: session.id == member.session,
    });
    let name = visit.form.given("name").unwrap_or(&user.name);
    let name = Field::line("name", "Name").value(name).error(errors.at("name")).autocomplete("name");
    Ok(Page {
        chrome: Chrome::of(visit, "Profile"),
        email: user.email.clone(),
        name: name.longest(NAME_CHARS_MAX).required(),
        has_password: user.password_hash.is_some(),
        current: Field::password("current", "Current password", "current-password")
            .error(errors.at("current"))
            .required(),
        password: new_password("password", "New password").error(errors.at("password")),
        problem: errors.beside(&["name", "current", "password"]).map(str::to_owned),
        rows: rows.collect(),
    })
}

/// What a browser calls itself, in two words.
pub(super) fn browser(agent: &str) -> String {
    let find =
        |names: &[(&str, &'static str)]| names.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name);
    // Most of them claim to be the ones further down as well.
    let name = find(&[
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ]);
    let system = find(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS", "macOS"),
        ("Linux", "Linux"),
    ]);
    match (name, system) {
        (Some(name), Some(system)) => format!("{name} on {system}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => agent.chars().take(60).collect(),
    }
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    Answer::page(&page(&visit, &Errors::none()).await?)
}

async fn rename(visit: Visit) -> Result<Answer, Fault> {
    match users::rename(visit.app(), visit.member().user.id, visit.form.text("name"), &visit.actor()).await {
        Ok(_) => Ok(Answer::to(PATH)?.saying(Flash::good("Your name is changed."))),
        Err(rejection) => Answer::unfit(&page(&visit, &Errors::of(rejection)?).await?),
    }
}

async fn change_password(visit: Visit) -> Result<Answer, Fault> {
    let secret = |name: &str| Secret::new(visit.form.text(name).to_owned());
    let (member, secrets) = (visit.member(), (secret("current"), secret("password")));
    let ids = (member.user.id, member.session);
    match users::change_password(visit.app(), ids, secrets, &visit.actor()).await {
        Ok(()) => {
            let told = "Your password is changed, and your other sessions have ended.";
            Ok(Answer::to(PATH)?.saying(Flash::good(told)))
        }
        Err(rejection) => Answer::unfit(&page(&visit, &Errors::of(rejection)?).await?),
    }
}

async fn end_one(visit: Visit) -> Result<Answer, Fault> {
    let id: Uuid = visit.id("session")?;
    let member = visit.member();
    if sessions::end(visit.app(), &member.user, Ending::One(id), &visit.actor()).await? == 0 {
        return Err(Fault::NotFound);
    }
    if id == member.session {
        return Ok(Answer { session: Some(None), ..Answer::to("/login")? });
    }
    Ok(Answer::to(PATH)?.saying(Flash::good("The session has ended.")))
}

async fn end_others(visit: Visit) -> Result<Answer, Fault> {
    let member = visit.member();
    sessions::end(visit.app(), &member.user, Ending::AllBut(Some(member.session)), &visit.actor()).await?;
    Ok(Answer::to(PATH)?.saying(Flash::good("All other sessions have ended.")))
}
