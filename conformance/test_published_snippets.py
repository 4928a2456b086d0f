"""The verifiers that AthenaText and Athenty publish, run under Node as they stand, accept what Postrider sends."""

import json
import re

import pytest
from conftest import one_byte_changes, until

DATA = {"lead_id": "lead_4c88e100", "name": "Zoë 🐎", "budget": 450000}
DIALECTS = ["athenatext", "athenty"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_published_verifier_accepts_a_delivery(endpoint, node, dialect):
    hook = endpoint(dialect)
    assert node.rejection(dialect, hook.secret, hook.publish(DATA)) is None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_it_rejects_any_change_of_one_byte_and_another_secret(endpoint, node, dialect):
    hook = endpoint(dialect)
    delivery = hook.publish(DATA)
    changed = list(one_byte_changes(delivery))
    verdicts = node.rejections(dialect, hook.secret, changed)
    assert [it for it, verdict in zip(changed, verdicts) if verdict is None] == []
    assert node.rejection(dialect, endpoint(dialect).secret, delivery) is not None


@pytest.mark.parametrize("dialect", DIALECTS)
def test_during_a_rotation_the_old_secret_still_verifies_the_header_and_the_new_one_the_next(endpoint, node, dialect):
    hook = endpoint(dialect)
    old, new = hook.secret, hook.rotate()
    during = hook.publish(DATA)
    assert node.rejection(dialect, old, during) is None
    assert node.rejection(f"{dialect}-next", new, during) is None
    hook.finish_rotation()
    after = hook.publish(DATA)
    assert node.rejection(dialect, new, after) is None
    assert node.rejection(dialect, old, after) is not None
    assert not any(name.endswith("-next") for name in after.headers)


def test_an_athenatext_delivery_has_the_published_envelope(endpoint):
    hook = endpoint("athenatext")
    delivery = hook.publish(DATA)
    body = json.loads(delivery.body)
    assert sorted(body) == ["created", "data", "id", "type", "workspace_id"]
    assert body["type"] == hook.type and body["data"]["given"] == DATA
    parts = delivery.headers["athena-signature"].split(",")
    assert [part.split("=")[0] for part in parts] == ["t", "v1"]


# As the page shows it.
LEAD = {
    "lead_id": "lead_4c88e100",
    "conversation_id": "conv_7f3a91b2",
    "phone": "+15551234567",
    "qualification": {
        "score": 0.87,
        "signals": ["budget", "timeline", "decision_maker"],
        "confidence": "high",
    },
    "campaign_id": "camp_spring_homes",
    "attributes": {"listing": "elm-st", "budget": 450000},
}
PAGE_EVENTS = [
    "message.received",
    "message.delivered",
    "lead.qualified",
    "lead.opted_out",
    "conversation.completed",
    "agent.requested",
]


def test_a_qualified_lead_goes_from_the_api_to_the_pages_own_verifier(server, receiver, tenant, node):
    wanted = {"tenant_id": tenant, "name": "workspace", "role": "owner"}
    key = server.call("POST", "/v1/api-keys", wanted)["key"]
    assert key.startswith("sk_live_")
    path = "/athenatext/page"
    hook = {"url": receiver.url(path), "events": ["lead.qualified"], "dialect": "athenatext"}
    made = server.call("POST", "/v1/webhooks", hook, key=key)
    for event in PAGE_EVENTS:
        server.call("POST", "/v1/events", {"type": event, "data": LEAD}, key=key)

    delivery = receiver.wait(path)
    assert node.rejection("athenatext", made["secret"], delivery) is None
    assert re.fullmatch(r"t=\d+,v1=[0-9a-f]{64}", delivery.headers["athena-signature"])
    body = json.loads(delivery.body)
    assert list(body) == ["id", "type", "created", "workspace_id", "data"], "in the order of the page"
    assert body["type"] == "lead.qualified" and body["data"] == LEAD
    assert body["id"].startswith("evt_")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["created"])

    # Only what was subscribed to comes; and it can be had again, signed for now.
    succeeded = f"/v1/deliveries?webhook_id={made['id']}&status=succeeded"
    shown = until("the delivery is recorded", lambda: server.call("GET", succeeded, key=key)["items"])
    assert [it["event_type"] for it in shown] == ["lead.qualified"]
    assert len(server.call("GET", f"/v1/deliveries?webhook_id={made['id']}", key=key)["items"]) == 1
    server.call("POST", f"/v1/deliveries/{shown[0]['id']}/retry", key=key)
    again = lambda: [it for it in list(receiver.deliveries) if it.path == path][1:]
    repeated = until("the delivery comes again", again)[0]
    assert repeated.body == delivery.body
    assert node.rejection("athenatext", made["secret"], repeated) is None


def test_an_athenty_delivery_has_the_published_envelope_and_its_webhook_a_test_ping(endpoint, receiver):
    hook = endpoint("athenty")
    ping = receiver.wait(hook.path, lambda it: json.loads(it.body)["type"] == "webhook.ping")
    assert json.loads(ping.body)["metadata"] == {"test": True, "delivery_attempt": 1}
    body = json.loads(hook.publish(DATA).body)
    assert sorted(body) == ["created_at", "data", "id", "metadata", "tenant_id", "type"]
    assert body["metadata"] == {"test": False, "delivery_attempt": 1}
