//! How somebody comes into the customers' portal. Its other pages are those of the console.

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use serde::Deserialize;

use crate::console::answer::{Answer, Fault};
use crate::console::cookies::Cookie;
use crate::console::layout::Theme;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::portal::sessions;

const PATH: &str = "/portal";

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(PATH, Access::SignedIn, |visit| async move { Answer::to(&visit.at("/webhooks")) }),
        Route::get("/portal/enter/{token}", Access::Open, enter),
    ]
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Query {
    /// `light` or `dark`, as the page around it is.
    theme: String,
}

/// Whether nobody looks yet: a preview of the link, or a browser that is ahead of its user.
fn is_only_looking(visit: &Visit) -> bool {
    let parts = &visit.parts;
    let says = |name: &str, word: &str| {
        parts.headers.get(name).is_some_and(|value| value.as_bytes().starts_with(word.as_bytes()))
    };
    parts.method == Method::HEAD || says("sec-purpose", "prefetch") || says("purpose", "prefetch")
}

async fn enter(visit: Visit) -> Result<Answer, Fault> {
    if is_only_looking(&visit) {
        return Ok(Answer { status: StatusCode::NO_CONTENT, ..Answer::document("text/plain", Body::empty()) });
    }
    let entered = sessions::enter(visit.app(), visit.path_text("token"), &visit.place()).await?;
    let (session, token) = entered.ok_or(Fault::SignIn)?;
    let life = session.ends_at.since(visit.app().ambient.now());
    let query: Query = visit.query();
    let theme = match Theme::of(Some(&query.theme)) {
        Theme::System => visit.jar.forget(Cookie::Theme),
        theme => visit.jar.set(Cookie::Theme, theme.name(), Some(life)),
    };
    let mut answer = Answer::to(PATH)?;
    answer.headers.append(header::SET_COOKIE, theme);
    Ok(Answer { session: Some(Some((token.reveal().to_owned(), life))), ..answer })
}
