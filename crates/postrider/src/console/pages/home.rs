//! Where the console begins, and its theme.

use std::time::Duration;

use axum::http::header;

use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::cookies::Cookie;
use crate::console::layout::Theme;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/", Access::Open, |_| async { Answer::to("/settings") }),
        Route::get("/settings", Access::SignedIn, begin),
        Route::post("/settings/theme", Access::SignedIn, theme),
    ]
}

async fn begin(visit: Visit) -> Result<Answer, Fault> {
    let is_member = visit.tenant_id().is_some();
    let sees = is_member && visit.may(Permission::StatsRead);
    let first = if sees { "/settings/overview" } else { "/settings/profile" };
    // What was to be said is said there.
    Answer::to(first)
}

async fn theme(visit: Visit) -> Result<Answer, Fault> {
    let theme = Theme::of(visit.form.given("theme"));
    let cookie = match theme {
        Theme::System => visit.jar.forget(Cookie::Theme),
        Theme::Light | Theme::Dark => visit.jar.set(Cookie::Theme, theme.name(), Some(YEAR)),
    };
    let mut answer = Answer::to(&came_from(&visit))?;
    answer.headers.append(header::SET_COOKIE, cookie);
    Ok(answer)
}

/// The page of ours that sent the form.
fn came_from(visit: &Visit) -> String {
    let referer = visit.parts.headers.get(header::REFERER).and_then(|value| url::Url::parse(value.to_str().ok()?).ok());
    let path = referer.map(|url| url.path().to_owned()).filter(|path| path.starts_with("/settings"));
    path.unwrap_or_else(|| "/settings".to_owned())
}
