//! Every piece of the design system on one page, in debug builds.

use askama::Template;
use postrider_core::time::UnixMs;

use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Choice, Field, Html, Mood, Pager};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/settings/design", Access::SignedIn, show)]
}

#[derive(Template)]
#[template(path = "design.html")]
struct Page {
    chrome: Chrome,
    pills: Vec<Html>,
    badges: Vec<Html>,
    fields: Vec<Field>,
    time: Html,
    never: Html,
    copyable: Html,
    code: Html,
    pager: Pager,
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let moods = [
        (Mood::Good, "Delivered"),
        (Mood::Bad, "Failed"),
        (Mood::Warning, "Retrying"),
        (Mood::Neutral, "Paused"),
        (Mood::Busy, "Sending"),
    ];
    let choice = |value: &str, chosen| Choice {
        value: value.to_owned(),
        label: value.to_owned(),
        hint: format!("What {value} means."),
        chosen,
    };
    let choices = || vec![choice("one", true), choice("two", false)];
    let hostile = "\u{202e}\"><script>alert(1)</script> and a very long name ".repeat(3);
    Answer::page(&Page {
        chrome: Chrome::of(&visit, "Design"),
        pills: moods.map(|(mood, text)| kit::pill(mood, text)).into(),
        badges: ["request.created", "envelope.completed", &hostile].map(kit::badge).into(),
        fields: vec![
            Field::line("line", "A line").hint("With a hint.").placeholder("Placeholder"),
            Field::url("wrong", "A line that is wrong").value("htp:/x").error(Some("This is not a URL.")).required(),
            Field::text("text", "Some text").value(&*hostile),
            Field::select("select", "One of a few", choices()),
            Field::radios("radios", "One of a few, explained", choices()),
            Field::checkbox("checkbox", "Yes or no", true).hint("With a hint."),
            Field::line("off", "Not now").disabled(),
        ],
        time: kit::time(UnixMs(1_772_618_400_123)),
        never: kit::maybe_time(None, "never"),
        copyable: kit::copyable("https://example.com/hooks/postrider", "the URL"),
        code: kit::code(
            "const expected = crypto.createHmac('sha256', SECRET)\n  .update(req.rawBody).digest('hex')",
            "Node.js",
        ),
        pager: Pager { next: Some("#".to_owned()), first: Some("#".to_owned()) },
    })
}
