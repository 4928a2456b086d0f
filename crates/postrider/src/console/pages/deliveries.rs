//! All deliveries, with filters; what is wrong with some can be mended for all that are alike.

mod filters;
mod rows;

use askama::Template;
use askama::filters::HtmlSafe;
use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::{DeliveryId, EventId, Sequence};
use serde::Deserialize;

pub(super) use self::filters::{Filters, webhook_choices};
pub(super) use self::rows::Rows;
use crate::auth::Permission;
use crate::console::answer::{Answer, Fault};
use crate::console::errors::Errors;
use crate::console::flash::Flash;
use crate::console::kit::{Field, Pager};
use crate::console::layout::Chrome;
use crate::console::live;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::pipeline::ByHand;
use crate::store::{DeliveryRecord, Listed, Page as ListPage};

pub(super) const PATH: &str = "/settings/deliveries";
const PER_PAGE: usize = 25;

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::DeliveriesRead), Access::Needs(Permission::DeliveriesWrite));
    vec![
        Route::get(PATH, read, list),
        live::route(),
        Route::post("/settings/deliveries/{delivery}/retry", write, retry),
    ]
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Place {
    cursor: Option<String>,
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct Page {
    chrome: Chrome,
    fields: Vec<Field>,
    is_filtered: bool,
    /// To where all that are like this can be sent again.
    bulk: Option<String>,
    /// `None`: the filters are not in order.
    list: Option<List>,
}

/// The part that a script asks for to keep the page up to date.
#[derive(Template)]
#[template(path = "delivery_list.html")]
struct List {
    rows: Rows,
    pager: Pager,
    is_filtered: bool,
    /// Not everything was looked at, and little of it was like that.
    is_partial: bool,
    /// Where the newest of this list are.
    live: String,
    /// Not the first page, which is not kept up to date.
    is_later: bool,
    /// Deliveries with a greater number have come since.
    newest: i64,
}

impl HtmlSafe for List {}

async fn list(visit: Visit) -> Result<Answer, Fault> {
    let (filters, place): (Filters, Place) = (visit.query(), visit.query());
    let before = place.cursor.as_ref().and_then(|cursor| cursor.parse().ok());
    match filters.query(&visit, ListPage { before, limit: PER_PAGE }).await? {
        Ok(query) => {
            // What comes while the list is read is newer than the list.
            let now = Sequence::floor(visit.app().ambient.now());
            let listed = visit.app().engine.deliveries(query).await?;
            let list = shown(&visit, &filters, &place, &listed, now);
            if visit.is_fragment() {
                return Answer::page(&list);
            }
            Answer::page(&page(&visit, &filters, Some(list), &Errors::none())?)
        }
        Err(errors) => Answer::unfit(&page(&visit, &filters, None, &errors)?),
    }
}

fn shown(visit: &Visit, filters: &Filters, place: &Place, listed: &Listed<DeliveryRecord>, now: i64) -> List {
    List {
        rows: Rows::of(visit, &listed.items, filters.encoded()),
        pager: Pager::of(PATH, &filters.pairs(), place.cursor.as_deref(), listed.next),
        is_filtered: filters.is_any(),
        is_partial: listed.next.is_some() && listed.items.len() < PER_PAGE,
        live: format!("{PATH}?{}", filters.encoded()),
        is_later: place.cursor.is_some(),
        newest: listed.items.first().map_or(now, |first| first.id.0.max(now)),
    }
}

fn page(visit: &Visit, filters: &Filters, list: Option<List>, errors: &Errors) -> Result<Page, Fault> {
    // Only what has ended is sent again, and never what is on its way.
    let is_ended = !matches!(filters.status(), Some(DeliveryStatus::Pending | DeliveryStatus::Delivering));
    let is_any = list.as_ref().is_some_and(|list| !list.rows.is_empty() || list.pager.next.is_some());
    let may_bulk = is_any && is_ended && visit.may(Permission::ReplaysWrite) && filters.event.trim().is_empty();
    Ok(Page {
        chrome: Chrome::of(visit, "Deliveries"),
        fields: filters.fields(&visit.tenant()?, errors),
        is_filtered: filters.is_any(),
        bulk: may_bulk.then(|| format!("{PATH}/replays/new?{}", filters.encoded())),
        list,
    })
}

async fn retry(visit: Visit) -> Result<Answer, Fault> {
    let id = DeliveryId(visit.id("delivery")?);
    visit.send_by_hand()?;
    let flash = match visit.app().engine.retry(visit.scope(), id, &visit.actor()).await? {
        ByHand::Done => Flash::good("It is tried again now."),
        ByHand::InFlight => Flash::bad("A request for it is under way."),
        ByHand::AlreadySo => Flash::bad("It is due already."),
        ByHand::NotFound => return Err(Fault::NotFound),
    };
    Ok(Answer::to(&came_from(visit.form.text("back")))?.saying(flash))
}

/// The list with these filters, or the page of an event: an address of ours, made anew from what it says.
fn came_from(back: &str) -> String {
    if let Some(event) = back.strip_prefix("event:").and_then(|id| id.parse::<EventId>().ok()) {
        return format!("/settings/events/{event}");
    }
    let filters: Filters = serde_urlencoded::from_str(back).unwrap_or_default();
    format!("{PATH}?{}", filters.encoded())
}
