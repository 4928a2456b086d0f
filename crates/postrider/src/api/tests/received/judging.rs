//! Who is let in, what is believed, and what is answered.

use super::*;

const SLACK_CHALLENGE: &str =
    r#"{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#;

fn from(request: axum::http::request::Builder, address: &str) -> axum::http::request::Builder {
    let address: SocketAddr = format!("{address}:4711").parse().unwrap();
    request.extension(ConnectInfo(address))
}

#[tokio::test]
async fn only_webhooks_that_receive_are_found_in_every_form_of_their_id() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let only_sends = world.webhook(&key).await;
    let unknown = WebhookId::from_random([7; 16]);
    for id in [only_sends, unknown.to_string(), "nonsense".to_owned()] {
        let path = format!("/api/v1/webhooks/receive/{id}");
        // Whatever else is wrong with the request.
        let told = world.post(&path, &[], vec![b'x'; INBOUND_BODY_BYTES_MAX + 1]).await;
        assert_eq!(told.status, 404, "{id}");
        assert_eq!(world.ask(Request::get(&path).body(Body::empty()).unwrap()).await.status, 404);
    }
    let hook = world.receiver(&tenant, "custom").await;
    let (name, value) = hook.sign(b"{}");
    for id in [hook.id.to_string(), hook.id.0.simple().to_string(), hook.id.0.hyphenated().to_string()] {
        let path = format!("/api/v1/webhooks/receive/{id}");
        world.post(&path, &[(name, &value)], "{}").await.expect(202);
    }
}

#[tokio::test]
async fn a_request_that_is_not_believed_is_kept_refused_and_can_be_released() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let (name, value) = hook.sign(b"{}");
    world.post(&hook.path(), &[(name, &value)], "{ }").await.expect(401);
    let told = world.post(&hook.path(), &[], "{}").await;
    told.expect(401);
    let kept = world.kept(&key).await;
    let reasons: Vec<_> = kept.iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["missing_header", "body_modified_suspected"]);
    assert!(kept.iter().all(|one| one["verdict"] == "failed" && one["event_id"].is_null()));
    assert!(world.get(&key, "/v1/events").await["items"].as_array().unwrap().is_empty());

    let id = kept[1]["id"].as_str().unwrap();
    let release = format!("/v1/received/{id}/release");
    let released = world.call(&key, "POST", &release, Value::Null).await.expect(202);
    assert_eq!(released["repeat"], false);
    assert_eq!(world.forwarded(1).await[0].body, b"{ }".as_slice());
    world.call(&key, "POST", &release, Value::Null).await.expect_error(409, "already_done", None);
    let kept = world.get(&key, &format!("/v1/received/{id}")).await;
    assert_eq!((&kept["event_id"], &kept["verdict"]), (&released["event_id"], &json!("failed")));
    assert!(!kept["released_at"].is_null());
    let log = world.get(&key, "/v1/audit-log?action=received.released").await;
    assert_eq!(log["items"][0]["target"], id);
}

#[tokio::test]
async fn the_rate_of_a_receiver_is_kept_and_what_is_over_it_is_not_recorded() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let slow = Some(RateLimit { per_second: 0.01 });
    world.edit(&hook, |record| record.spec.receiver.as_mut().unwrap().rate_limit = slow).await;
    world.genuine(&hook, &[], b"1").await.expect(202);
    let told = world.genuine(&hook, &[], b"2").await;
    assert_eq!(told.status, 429);
    let seconds: u64 = told.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((90..=100).contains(&seconds), "{seconds}");
    world.edit(&hook, |record| record.spec.name = Some("other".to_owned())).await;
    assert_eq!(world.genuine(&hook, &[], b"3").await.status, 429, "an edit is no new allowance");
    assert_eq!(world.kept(&key).await.len(), 1);
    world.edit(&hook, |record| record.spec.receiver.as_mut().unwrap().rate_limit = None).await;
    world.genuine(&hook, &[], b"4").await.expect(202);
}

#[tokio::test]
async fn requests_from_elsewhere_are_turned_away_and_proxies_are_seen_through() {
    let world = World::with(|config| config.trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()]).await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let allowed = vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    world.edit(&hook, |record| record.spec.receiver.as_mut().unwrap().allowed_addresses = allowed).await;
    let (name, value) = hook.sign(b"{}");
    let send = async |peer: &str, forwarded: Option<&str>| {
        let mut request = from(Request::post(hook.path()).header(name, &value), peer);
        if let Some(forwarded) = forwarded {
            request = request.header("x-forwarded-for", forwarded);
        }
        world.ask(request.body(Body::from("{}")).unwrap()).await.status
    };
    assert_eq!(send("192.0.2.7", None).await, 202);
    assert_eq!(send("[2001:db8::7]", None).await, 202);
    assert_eq!(send("198.51.100.1", None).await, 403);
    assert_eq!(send("198.51.100.1", Some("192.0.2.7")).await, 403, "who is no proxy is not believed");
    assert_eq!(send("10.0.0.1", Some("192.0.2.7")).await, 202);
    assert_eq!(send("10.0.0.1", Some("192.0.2.7, 198.51.100.1")).await, 403);
    let untold = world.post(&hook.path(), &[(name, &value)], "{}").await;
    assert_eq!(untold.status, 403, "an unknown address is not an allowed one");
    let kept = world.kept(&key).await;
    assert_eq!(kept.len(), 3, "what is turned away is not kept");
    assert_eq!((&kept[0]["remote_address"], &kept[1]["remote_address"]), (&json!("192.0.2.7"), &json!("2001:db8::7")));
}

#[tokio::test]
async fn a_new_secret_counts_from_the_next_request_on() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    world.genuine(&hook, &[], b"1").await.expect(202);
    let rotated = Hook { secret: secret_from_random([9; 32]), ..hook.clone() };
    let sealed = |record: &mut WebhookRecord| world.seal(record, &rotated.secret, &ReceiverSecrets::default());
    world.edit(&hook, sealed).await;
    world.genuine(&hook, &[], b"2").await.expect(401);
    world.genuine(&rotated, &[], b"3").await.expect(202);
    // A provider's secret takes the place of our own, which goes on signing what is forwarded.
    let given = ReceiverSecrets { secrets: vec![Secret::new("given".into()), hook.secret.clone()], verify_token: None };
    world.edit(&hook, |record| world.seal(record, &rotated.secret, &given)).await;
    world.genuine(&rotated, &[], b"4").await.expect(401);
    world.genuine(&hook, &[], b"5").await.expect(202);
    let given = Hook { secret: Secret::new("given".into()), ..hook };
    world.genuine(&given, &[], b"6").await.expect(202);
}

#[tokio::test]
async fn a_handshake_is_answered_and_not_kept() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let slack = world.receiver(&tenant, "slack").await;
    let told = world.post(&slack.path(), &[("content-type", "application/json")], SLACK_CHALLENGE).await;
    assert_eq!((told.status, told.body.len()), (200, 52));
    assert_eq!(told.headers["content-type"], "text/plain; charset=utf-8");

    let dropbox = world.receiver(&tenant, "dropbox").await;
    let get = async |path: String| world.ask(Request::get(path).body(Body::empty()).unwrap()).await;
    let told = get(format!("{}?challenge=abc-1", dropbox.path())).await;
    assert_eq!((told.status, &*told.body), (200, b"abc-1".as_slice()));
    assert_eq!(get(format!("{}?challenge=%3Cscript%3E", dropbox.path())).await.status, 400);
    assert_eq!(get(format!("{}?other=1", dropbox.path())).await.status, 405);
    let refused = get(dropbox.path()).await;
    assert_eq!(refused.status, 405);
    assert_eq!(refused.headers["allow"], "HEAD,POST");
    let head = world.ask(Request::head(dropbox.path()).body(Body::empty()).unwrap()).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let large = Body::from(vec![b' '; INBOUND_BODY_BYTES_MAX + 1]);
    let request = Request::get(format!("{}?challenge=abc-1", dropbox.path())).body(large).unwrap();
    assert_eq!(world.ask(request).await.status, 200, "before the size is looked at");
    assert!(world.kept(&key).await.is_empty());
}

#[tokio::test]
async fn a_secret_that_is_handed_over_is_the_receivers_from_then_on_and_no_second_one_is() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let asana = world.receiver(&tenant, "asana").await;
    let body = r#"{"events":[{"action":"changed","resource":{"resource_type":"task"}}]}"#;
    let first = "b537207f20cbfa02357cf448134da559";
    let sign = |secret: &str| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        hex::encode(ring::hmac::sign(&key, body.as_bytes()))
    };
    world.post(&asana.path(), &[("x-hook-signature", &sign(first))], body).await.expect(401);
    assert_eq!(world.kept(&key).await[0]["verdict"], "unattempted", "there is nothing to verify with yet");
    let told = world.post(&asana.path(), &[("x-hook-secret", first)], "{}").await;
    assert_eq!((told.status, &told.headers["x-hook-secret"]), (204, &first.parse().unwrap()));
    let told = world.post(&asana.path(), &[("x-hook-signature", &sign(first))], body).await;
    assert_eq!((told.status, told.body.len()), (200, 0));
    assert_eq!(world.kept(&key).await[0]["type"], "task.changed");

    let second = "0123456789abcdef0123456789abcdef";
    assert_eq!(world.post(&asana.path(), &[("x-hook-secret", second)], "{}").await.status, 400);
    world.post(&asana.path(), &[("x-hook-signature", &sign(second))], body).await.expect(401);
    assert_eq!(
        world.post(&asana.path(), &[("x-hook-secret", first)], "{}").await.status,
        204,
        "the same may be said again"
    );
    let log = world.get(&key, "/v1/audit-log?actor=system").await;
    assert_eq!((log["items"].as_array().unwrap().len(), &log["items"][0]["target"]), (1, &json!(asana.id.to_string())));
    assert!(!log.to_string().contains(first));
}

#[tokio::test]
async fn a_shared_token_is_authenticated_and_never_kept() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "token").await;
    let bearer = format!("Bearer {}", hook.secret.reveal());
    world.post(&hook.path(), &[("authorization", &bearer), ("x-api-key", "k")], "{}").await.expect(202);
    world.post(&hook.path(), &[("authorization", "Bearer wrong")], "{}").await.expect(401);
    let gitlab = world.receiver(&tenant, "gitlab").await;
    world.post(&gitlab.path(), &[("x-gitlab-token", gitlab.secret.reveal())], "{}").await.expect(202);
    let kept = world.kept(&key).await;
    let verdicts: Vec<_> = kept.iter().map(|one| one["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["authenticated", "failed", "authenticated"]);
    for one in kept {
        let whole = world.get(&key, &format!("/v1/received/{}", one["id"].as_str().unwrap())).await;
        assert_eq!(whole["headers"], json!([]), "{whole}");
    }
}

#[tokio::test]
async fn what_others_may_know_verifies_and_our_own_secret_does_not_stand_in_for_it() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    // The client's id is public, the own secret is not: without the id nothing is verified.
    let hook = world.receiver(&tenant, "adobesign").await;
    let own = [("x-adobesign-clientid", hook.secret.reveal())];
    world.post(&hook.path(), &own, "{}").await.expect(401);
    assert_eq!(world.kept(&key).await[0]["verdict"], "unattempted");
    let given = ReceiverSecrets { secrets: vec![Secret::new("client-1".into())], verify_token: None };
    world.edit(&hook, |record| world.seal(record, &hook.secret, &given)).await;
    assert_eq!(world.post(&hook.path(), &[("x-adobesign-clientid", "client-1")], "{}").await.status, 200);
    assert_eq!(world.post(&hook.path(), &own, "{}").await.status, 401);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_had_leaves_a_request_unattempted_and_its_sender_to_try_again() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "sns").await;
    let given = ReceiverSecrets { secrets: vec![Secret::new("arn:aws:sns:us-east-1:1:t".into())], verify_token: None };
    world.edit(&hook, |record| world.seal(record, &hook.secret, &given)).await;
    let message = |host: &str| {
        json!({ "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": "hi",
            "Timestamp": "2026-01-01T00:00:00Z", "SignatureVersion": "2", "Signature": "AAAA",
            "SigningCertURL": format!("https://{host}/SimpleNotificationService-1.pem") })
        .to_string()
    };
    let told = world.post(&hook.path(), &[], message("sns.us-east-1.amazonaws.com")).await;
    assert_eq!((told.status, &told.headers["retry-after"]), (503, &"1".parse().unwrap()), "worth sending again");
    world.post(&hook.path(), &[], message("sns.us-east-1.amazonaws.com.evil.example")).await.expect(401);
    let kept = world.kept(&key).await;
    assert_eq!((&kept[0]["verdict"], &kept[0]["reason"]), (&json!("failed"), &json!("certificate_not_trusted")));
    assert_eq!((&kept[1]["verdict"], &kept[1]["reason"]), (&json!("unattempted"), &Value::Null));
}

#[tokio::test]
async fn a_provider_is_answered_as_it_wishes_and_the_owner_has_the_last_word() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let body = b"{}";
    let mac = |hook: &Hook, text: &str| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, hook.secret.reveal().as_bytes());
        hex::encode(ring::hmac::sign(&key, text.as_bytes()))
    };
    let slack = world.receiver(&tenant, "slack").await;
    let now = System.now().seconds().to_string();
    let signature = format!("v0={}", mac(&slack, &format!("v0:{now}:{{}}")));
    let headers = [("x-slack-request-timestamp", now.as_str()), ("x-slack-signature", &signature)];
    let told = world.post(&slack.path(), &headers, body.to_vec()).await;
    assert_eq!((told.status, told.body.len()), (200, 0));
    let own = ReceiverAnswer { status: 203, content_type: Some("text/xml".to_owned()), body: "<ok/>".to_owned() };
    world.edit(&slack, |record| record.spec.receiver.as_mut().unwrap().answer = Some(own)).await;
    let told = world.post(&slack.path(), &headers, body.to_vec()).await;
    assert_eq!((told.status, &*told.body), (203, b"<ok/>".as_slice()));
    assert_eq!(told.headers["content-type"], "text/xml");
    assert_eq!(world.post(&slack.path(), &[], "{}").await.status, 401, "a refusal stays one");
}

#[tokio::test]
async fn what_a_provider_signs_with_the_url_is_checked_against_the_url_it_was_told() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "twilio").await;
    let sign = |url: &str| {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, hook.secret.reveal().as_bytes());
        let tag = ring::hmac::sign(&key, format!("{url}SmsStatussent").as_bytes());
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, tag)
    };
    let told = format!("https://hooks.example.com{}", hook.path());
    let form = ("content-type", "application/x-www-form-urlencoded");
    let post = async |path: String, signature: String| {
        let headers = [form, ("host", "elsewhere.example"), ("x-twilio-signature", &signature)];
        world.post(&path, &headers, "SmsStatus=sent").await.status
    };
    assert_eq!(post(hook.path(), sign(&told)).await, 204);
    assert_eq!(post(format!("{}?a=%20b", hook.path()), sign(&format!("{told}?a=%20b"))).await, 204);
    assert_eq!(post(hook.path(), sign(&format!("https://elsewhere.example{}", hook.path()))).await, 401);
}

#[tokio::test]
async fn linear_finds_the_webhook_whose_secret_has_signed() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let (others, other_key) = world.tenant("Other").await;
    let mine = world.receiver(&tenant, "linear").await;
    for _ in 0..20 {
        world.receiver(&others, "linear").await;
    }
    let body = json!({ "action": "create", "type": "Issue", "webhookTimestamp": System.now().0 }).to_string();
    let mac = |secret: &str| {
        hex::encode(ring::hmac::sign(
            &ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes()),
            body.as_bytes(),
        ))
    };
    let headers = |signature: &str| {
        [
            ("linear-signature", signature.to_owned()),
            ("linear-event", "Issue".to_owned()),
            ("linear-delivery", "d-1".to_owned()),
        ]
    };
    let send = async |signature: &str| {
        let headers = headers(signature);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        world.post("/api/v1/webhooks/linear", &headers, body.clone()).await
    };
    send(&mac("wrong")).await.expect(401);
    assert_eq!(send(&mac(mine.secret.reveal())).await.expect(200)["data"]["status"], "accepted");
    assert_eq!(send(&mac(mine.secret.reveal())).await.expect(200)["data"]["status"], "duplicate");
    let kept = world.kept(&key).await;
    assert_eq!((kept.len(), &kept[0]["type"]), (2, &json!("issue.create")));
    assert_eq!(kept[0]["webhook_id"], mine.id.to_string());
    assert!(world.kept(&other_key).await.is_empty());
    world.call(&key, "DELETE", &format!("/v1/webhooks/{}", mine.id), Value::Null).await.expect(204);
    send(&mac(mine.secret.reveal())).await.expect(401);
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_answered_as_if_it_were() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    world.app.store.close().await.unwrap();
    for told in [world.genuine(&hook, &[], b"{}").await, world.post(&hook.path(), &[], "{}").await] {
        assert_eq!((told.status, &told.headers["retry-after"]), (503, &"1".parse().unwrap()));
    }
}

#[tokio::test]
async fn of_several_things_that_are_wrong_the_first_counts() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let allowed = vec!["192.0.2.0/24".parse().unwrap()];
    world.edit(&hook, |record| record.spec.receiver.as_mut().unwrap().allowed_addresses = allowed).await;
    let send = async |address: &str, bytes: usize| {
        let request = from(Request::post(hook.path()), address).body(Body::from(vec![b'x'; bytes]));
        world.ask(request.unwrap()).await.status
    };
    let too_large = INBOUND_BODY_BYTES_MAX + 1;
    assert_eq!(send("198.51.100.1", too_large).await, 403);
    assert_eq!(send("192.0.2.1", too_large).await, 413);
    assert_eq!(send("192.0.2.1", 1).await, 401);
    let used_up = Some(RateLimit { per_second: 0.01 });
    world.edit(&hook, |record| record.spec.receiver.as_mut().unwrap().rate_limit = used_up).await;
    assert_eq!(send("198.51.100.1", 1).await, 403, "who may not send does not use the rate up");
    assert_eq!(send("192.0.2.1", 1).await, 401);
    assert_eq!(send("198.51.100.1", too_large).await, 403);
    assert_eq!(send("192.0.2.1", too_large).await, 429);
    assert_eq!(world.kept(&key).await.len(), 2);
}

#[tokio::test]
async fn many_webhooks_of_one_tenant_do_not_keep_out_anothers() {
    use postrider_core::limits::INBOUND_CANDIDATES_MAX;
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let (others, _) = world.tenant("Other").await;
    let catalog = &world.app.catalog;
    let theirs = catalog.webhook(world.receiver(&others, "linear").await.id).unwrap().record;
    for number in 1..=INBOUND_CANDIDATES_MAX {
        let id = WebhookId::from_random(world.app.ambient.random());
        let created_at = theirs.created_at + Duration::from_millis(number as u64);
        catalog.put_webhook(WebhookRecord { id, created_at, ..WebhookRecord::clone(&theirs) });
    }
    let mine = world.receiver(&tenant, "Linear").await;
    let candidates = catalog.receiving("linear", INBOUND_CANDIDATES_MAX);
    assert_eq!(candidates.len(), INBOUND_CANDIDATES_MAX);
    assert!(candidates.iter().any(|record| record.id == mine.id));
    assert_eq!(candidates[0].id, theirs.id, "the oldest first");
    catalog.put_webhook({
        let mut record = WebhookRecord::clone(&catalog.webhook(mine.id).unwrap().record);
        record.spec.receiver.as_mut().unwrap().source = "slack".to_owned();
        record
    });
    assert!(catalog.receiving("linear", INBOUND_CANDIDATES_MAX).iter().all(|record| record.id != mine.id));
    assert_eq!(catalog.receiving("slack", 1)[0].id, mine.id);
    catalog.remove_tenant(theirs.tenant_id);
    assert!(catalog.receiving("linear", 1).is_empty());
}

#[tokio::test]
async fn a_flood_of_what_is_not_believed_is_refused_and_no_longer_kept() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    world.post(&hook.path(), &[], "{}").await.expect(401);
    assert_eq!(world.kept(&key).await.len(), 1);
    let record = world.app.catalog.webhook(hook.id).unwrap().record;
    let receiver = world.app.inbound.receiver(&world.app, &record).unwrap().unwrap();
    // A time to come, so that nothing grows back while the test runs.
    let later = System.now() + Duration::from_secs(3600);
    while receiver.keeps_refused(later) {}
    world.post(&hook.path(), &[], "{}").await.expect(401);
    world.edit(&hook, |record| record.spec.name = Some("other".to_owned())).await;
    world.post(&hook.path(), &[], "{}").await.expect(401);
    assert_eq!(world.kept(&key).await.len(), 1, "an edit is no new allowance");
    world.genuine(&hook, &[], b"{}").await.expect(202);
    assert_eq!(world.kept(&key).await.len(), 2, "what is believed is kept all the same");
}
