"""The official Standard Webhooks libraries accept what Postrider sends, and nothing else."""

import pytest
from conftest import one_byte_changes
from standardwebhooks import Webhook, WebhookVerificationError

DATA = [
    {"plain": "ascii", "number": 12.50, "list": [1, 2.0, None, True]},
    {"unicode": "żółć 漢字 🐎", "escaped": "\"\\\n\u2028", "nested": {"a": {"b": {}}}},
    "a bare string",
    [],
]


def rejection(secret, delivery):
    """As the library for Python sees it: None if it accepts."""
    try:
        Webhook(secret).verify(delivery.body, delivery.headers)
        return None
    except (WebhookVerificationError, UnicodeDecodeError, ValueError) as error:
        return repr(error)


@pytest.mark.parametrize("data", DATA, ids=["plain", "unicode", "string", "list"])
def test_the_libraries_for_python_and_npm_accept_a_delivery(endpoint, node, data):
    hook = endpoint("standard")
    delivery = hook.publish(data)
    assert rejection(hook.secret, delivery) is None
    assert node.rejection("standardwebhooks", hook.secret, delivery) is None


def test_they_reject_it_after_any_change_of_one_byte(endpoint, node):
    hook = endpoint("standard")
    delivery = hook.publish(DATA[0])
    changed = list(one_byte_changes(delivery))
    time = int(delivery.headers["webhook-timestamp"])
    changed += [delivery.with_header("webhook-timestamp", str(time + step)) for step in (-1, 1)]
    identifier = delivery.headers["webhook-id"]
    changed += [delivery.with_header("webhook-id", identifier[:at] + "~" + identifier[at + 1 :]) for at in range(len(identifier))]
    signature = delivery.headers["webhook-signature"]
    assert signature.startswith("v1,")
    # The last character but the padding carries spare bits that base64 decoders ignore: it is left alone.
    for at in range(3, len(signature) - 2):
        other = "A" if signature[at] != "A" else "B"
        changed.append(delivery.with_header("webhook-signature", signature[:at] + other + signature[at + 1 :]))
    assert len(changed) > 100
    accepted = [it for it in changed if rejection(hook.secret, it) is None]
    assert accepted == []
    verdicts = node.rejections("standardwebhooks", hook.secret, changed)
    assert [it for it, verdict in zip(changed, verdicts) if verdict is None] == []


def test_they_reject_another_webhooks_secret(endpoint, node):
    hook, other = endpoint("standard"), endpoint("standard")
    delivery = hook.publish(DATA[0])
    assert rejection(other.secret, delivery) is not None
    assert node.rejection("standardwebhooks", other.secret, delivery) is not None


def test_during_a_rotation_both_secrets_verify_and_afterwards_only_the_new_one(endpoint, node):
    hook = endpoint("standard")
    old, new = hook.secret, hook.rotate()
    during = hook.publish(DATA[0])
    for secret in (old, new):
        assert rejection(secret, during) is None
        assert node.rejection("standardwebhooks", secret, during) is None
    hook.finish_rotation()
    after = hook.publish(DATA[0])
    assert rejection(new, after) is None
    assert node.rejection("standardwebhooks", new, after) is None
    assert rejection(old, after) is not None
    assert node.rejection("standardwebhooks", old, after) is not None
