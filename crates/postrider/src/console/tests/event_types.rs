//! The catalogue of event types.

use super::*;

const ADA: &str = "ada@example.com";
const NEW: &str = "/settings/event-types/new";
const EDIT: &str = "/settings/event-types/edit?name=order.paid";
const SHOW: &str = "/settings/event-types/type?name=order.paid";

async fn site() -> (Site, TenantId) {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Admin)]).await;
    (site, tenant)
}

#[tokio::test]
async fn a_type_is_described_changed_deprecated_and_forgotten() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    assert!(browser.get("/settings/event-types").await.expect(200).has("No event types yet"));
    let fields = [
        ("name", "order.paid"),
        ("group", "Orders"),
        ("schema", r#"{"type":"object","required":["id"]}"#),
        ("example", r#"{"id":1}"#),
    ];
    assert_eq!(browser.submit(NEW, NEW, &fields).await.expect(303).location(), SHOW);
    let page = browser.get(SHOW).await.expect(200);
    assert!(page.has("&quot;required&quot;") && page.has("/settings/event-types/edit?name=order.paid"));
    let again = browser.submit(NEW, NEW, &fields).await.expect(422);
    assert!(again.has("id=\"name-error\"") && again.has("described already"));
    let form = browser.get(EDIT).await.expect(200);
    assert!(form.has("&#34;required&#34;") || form.has("&quot;required&quot;"), "{}", form.text);
    let fields = [("group", "Sales"), ("schema", fields[2].1), ("example", fields[3].1), ("deprecated", "on")];
    browser.submit(EDIT, EDIT, &fields).await.expect(303);
    let record = site.app().catalog.event_type(Some(tenant), "order.paid").unwrap();
    assert!(record.deprecated && record.group.as_deref() == Some("Sales"));
    assert!(browser.get("/settings/event-types").await.expect(200).has("Deprecated"));
    let delete = "/settings/event-types/delete?name=order.paid";
    browser.submit(delete, delete, &[]).await.expect(303);
    assert!(site.app().catalog.event_type(Some(tenant), "order.paid").is_none());
}

#[tokio::test]
async fn what_is_wrong_is_said_beside_the_field_and_nothing_typed_is_lost() {
    let (site, _) = site().await;
    let browser = site.logged_in(ADA).await;
    for (fields, field) in [
        (vec![("name", "no spaces")], "name"),
        (vec![("name", "")], "name"),
        (vec![("name", "a"), ("schema", "{\"type\":")], "schema"),
        (vec![("name", "a"), ("schema", r#"{"type":"nonsense"}"#)], "schema"),
        (vec![("name", "a"), ("schema", r#"{"$ref":"https://example.com/x"}"#)], "schema"),
        (vec![("name", "a"), ("schema", r#"{"type":"string"}"#), ("example", "1")], "example"),
        (vec![("name", "a"), ("example", "'")], "example"),
    ] {
        let mut fields = fields;
        fields.push(("description", "kept </textarea><script>"));
        let page = browser.submit(NEW, NEW, &fields).await.expect(422);
        assert!(page.has(&format!("id=\"{field}-error\"")), "{fields:?} {}", page.text);
        assert!(page.has("kept ") && !page.has("</textarea><script>"));
    }
}

#[tokio::test]
async fn a_schema_that_accepts_less_is_shown_first() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    let fields = [("name", "order.paid"), ("schema", r#"{"type":"object"}"#), ("example", "{}")];
    browser.submit(NEW, NEW, &fields).await.expect(303);
    let narrower = r#"{"type":"object","required":["id"]}"#;
    let fields = [("schema", narrower), ("example", r#"{"id":1}"#)];
    let page = browser.submit(EDIT, EDIT, &fields).await.expect(422);
    assert!(page.has("accepts less") && page.has("name=\"accept\""), "{}", page.text);
    let schema = || site.app().catalog.event_type(Some(tenant), "order.paid").unwrap().schema.clone().unwrap();
    assert!(schema().get("required").is_none());
    let fields = [fields[0], fields[1], ("accept", "yes")];
    browser.submit(EDIT, EDIT, &fields).await.expect(303);
    assert!(schema().get("required").is_some());
}

#[tokio::test]
async fn what_is_of_the_platform_is_changed_by_its_admins_alone() {
    let (site, tenant) = site().await;
    site.platform_admin("root@example.com").await;
    let root = site.logged_in("root@example.com").await;
    let fields = [("name", "order.paid"), ("whose", "platform")];
    root.submit(NEW, NEW, &fields).await.expect(303);
    assert_eq!(site.app().catalog.event_type(Some(tenant), "order.paid").unwrap().tenant_id, None);
    root.get(EDIT).await.expect(200);
    let ada = site.logged_in(ADA).await;
    let page = ada.get(SHOW).await.expect(200);
    assert!(page.has("Of the platform") && !page.has("/settings/event-types/edit"));
    ada.get(EDIT).await.expect(404);
    ada.submit(NEW, EDIT, &[]).await.expect(404);
    ada.submit(NEW, "/settings/event-types/delete?name=order.paid", &[]).await.expect(404);
    // A tenant may describe it for itself; who asks for everybody without being asked gets his own.
    ada.submit(NEW, NEW, &[("name", "order.paid"), ("whose", "platform")]).await.expect(303);
    assert_eq!(site.app().catalog.event_type(Some(tenant), "order.paid").unwrap().tenant_id, Some(tenant));
}

#[tokio::test]
async fn the_catalogues_that_come_along_can_be_read() {
    let (site, _) = site().await;
    let browser = site.logged_in(ADA).await;
    for catalogue in crate::registry::catalogues::all() {
        let page = browser.get(&format!("/settings/event-types?catalogue={}", catalogue.name)).await.expect(200);
        assert!(page.text.len() < 100 * 1024, "{}: {}", catalogue.name, page.text.len());
        let name = &catalogue.types[0].name;
        assert!(page.has(name), "{name}");
        let one = format!("/settings/event-types/type?catalogue={}&name={name}", catalogue.name);
        let page = browser.get(&one).await.expect(200);
        assert!(page.has("JSON Schema") && !page.has("/settings/event-types/edit"));
    }
    browser.get("/settings/event-types?catalogue=nothing").await.expect(404);
    browser.get("/settings/event-types/type?catalogue=athenty&name=nothing").await.expect(404);
}

#[tokio::test]
async fn a_long_catalogue_is_searched_and_the_page_stays_small() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    for number in 0..300 {
        let said = crate::registry::event_types::Description {
            group: Some("\"<&".repeat(10)),
            description: Some("<&\"'".repeat(250)),
            schema: None,
            example: None,
            deprecated: false,
        };
        let name = format!("{}.{number}", "long".repeat(20));
        let (said, actor) = ((said, Default::default()), nobody());
        crate::registry::event_types::put(site.app(), Some(tenant), &name, said, &actor).await.unwrap();
    }
    let page = browser.get("/settings/event-types").await.expect(200);
    assert!(page.text.len() < 100 * 1024 && page.has("more: search for them"), "{}", page.text.len());
    let page = browser.get("/settings/event-types?q=.299").await.expect(200);
    assert!(page.has("long.299") && !page.has("long.298"));
    assert!(browser.get("/settings/event-types?q=nothing").await.expect(200).has("None found"));
}
