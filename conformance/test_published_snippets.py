"""The verifiers that AthenaText and Athenty publish, run under Node as they stand, accept what Postrider sends."""

import json

import pytest
from conftest import one_byte_changes

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


def test_an_athenty_delivery_has_the_published_envelope_and_its_webhook_a_test_ping(endpoint, receiver):
    hook = endpoint("athenty")
    ping = receiver.wait(hook.path, lambda it: json.loads(it.body)["type"] == "webhook.ping")
    assert json.loads(ping.body)["metadata"] == {"test": True, "delivery_attempt": 1}
    body = json.loads(hook.publish(DATA).body)
    assert sorted(body) == ["created_at", "data", "id", "metadata", "tenant_id", "type"]
    assert body["metadata"] == {"test": False, "delivery_attempt": 1}
