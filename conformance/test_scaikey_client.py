"""A client that openapi-python-client generates from the served document performs the whole life of a webhook."""

import datetime
import hashlib
import hmac
import importlib
import os
import pathlib
import pkgutil
import subprocess
import sys

import pytest
import requests

from conftest import Endpoint, program, until

DOCUMENT = "/api/v1/admin/openapi.json"
PACKAGE = "generated_scaikey_client"


@pytest.fixture(scope="session")
def generated(server, tmp_path_factory):
    """The generated package; any warning of the generator is a fault of the document."""
    place = tmp_path_factory.mktemp("generated")
    document = place / "openapi.json"
    document.write_bytes(requests.get(server.url + DOCUMENT, timeout=10).content)
    command = [program("openapi-python-client"), "generate", "--path", str(document), "--meta", "none"]
    command += ["--output-path", str(place / PACKAGE), "--fail-on-warning"]
    tools = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": tools}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    sys.path.insert(0, str(place))
    yield importlib.import_module(PACKAGE)
    sys.path.remove(str(place))


class Client:
    """The generated calls by the names that the contract's document gives them."""

    def __init__(self, generated, url, token):
        self.models = importlib.import_module(f"{PACKAGE}.models")
        api = importlib.import_module(f"{PACKAGE}.api.webhooks")
        self.modules = {module.name.split("_api_v1_")[0]: module.name for module in pkgutil.iter_modules(api.__path__)}
        self.client = generated.AuthenticatedClient(base_url=url, token=token)

    def call(self, name, /, *arguments, **keywords):
        """Status and parsed reply."""
        module = importlib.import_module(f"{PACKAGE}.api.webhooks.{self.modules[name]}")
        reply = module.sync_detailed(*arguments, client=self.client, **keywords)
        return reply.status_code, reply.parsed

    def expect(self, status, name, /, *arguments, **keywords):
        told, parsed = self.call(name, *arguments, **keywords)
        assert told == status, (name, told, parsed)
        return parsed


CALLS = {
    "list_webhooks",
    "create_webhook",
    "list_supported_events",
    "delete_webhook",
    "get_webhook",
    "update_webhook",
    "list_webhook_deliveries",
    "get_webhook_delivery",
    "retry_webhook_delivery",
    "rotate_webhook_secret",
    "get_webhook_stats",
    "test_webhook",
}


def signatures(delivery):
    """Time and signatures of `X-ScaiKey-Signature: t=…,v1=…[,v1=…]`."""
    parts = [part.split("=", 1) for part in delivery.headers["x-scaikey-signature"].split(",")]
    return parts[0][1], [value for name, value in parts[1:] if name == "v1"]


def signed_with(secret, delivery):
    time, _ = signatures(delivery)
    return hmac.new(secret.encode(), time.encode() + b"." + delivery.body, hashlib.sha256).hexdigest()


@pytest.fixture
def own_tenant(server):
    return server.call("POST", "/v1/tenants", {"name": "Generated"})["id"]


@pytest.fixture
def tenant_admin(server, own_tenant):
    body = {"tenant_id": own_tenant, "name": "generated", "role": "admin"}
    return server.call("POST", "/v1/api-keys", body)["key"]


def test_the_generated_client_has_the_contracts_calls(generated, server):
    client = Client(generated, server.url, server.admin_key)
    assert set(client.modules) == CALLS


def test_the_generated_client_performs_the_life_of_a_webhook(generated, server, receiver, own_tenant, tenant_admin):
    client = Client(generated, server.url, tenant_admin)
    models = client.models
    described = {"group": "user", "example": {"id": "u"}}
    server.call("PUT", f"/v1/event-types/user.created?tenant_id={own_tenant}", described)
    supported = client.expect(200, "list_supported_events").items
    assert [(event.type_, event.group) for event in supported] == [("user.created", "user")]

    path = f"/generated/{next(Endpoint.numbers)}"
    wanted = models.WebhookCreate(url=receiver.url(path), events=["user.*"], description="By a generated client")
    created = client.expect(201, "create_webhook", body=wanted)
    assert created.secret.startswith("whsec_") and created.tenant_id == own_tenant.replace("ten_", "tnt_")
    assert isinstance(created.created_at, datetime.datetime) and created.is_active is True

    page = client.expect(200, "list_webhooks", page=1, per_page=100)
    assert [webhook.id for webhook in page.items] == [created.id] and (page.total, page.pages) == (1, 1)
    one = client.expect(200, "get_webhook", created.id)
    assert one.timeout_seconds == 10 and one.last_delivery_at is None and not hasattr(one, "secret")

    event = {"tenant_id": own_tenant, "type": "user.created", "data": {"id": "u1"}}
    published = server.call("POST", "/v1/events", event)["id"]
    arrived = receiver.wait(path)
    assert signatures(arrived)[1] == [signed_with(created.secret, arrived)]
    assert arrived.headers["x-scaikey-event-id"] == published

    def done():
        succeeded = models.DeliveryStatus.SUCCEEDED
        return client.expect(200, "list_webhook_deliveries", created.id, status=succeeded).items

    delivery = until("the delivery is recorded", done)[0]
    assert str(delivery.id) == arrived.headers["x-scaikey-webhook-id"] and delivery.response_status == 200
    detail = client.expect(200, "get_webhook_delivery", created.id, delivery.id)
    assert detail.payload["resource"] == {"id": "u1", "type": "user"} and len(detail.attempts) == 1
    retried = client.expect(200, "retry_webhook_delivery", created.id, delivery.id)
    assert (retried.id, retried.status) == (delivery.id, "pending")
    until("it is sent again", lambda: len([it for it in receiver.deliveries if it.path == path]) == 2)

    changed = client.expect(200, "update_webhook", created.id, body=models.WebhookUpdate(events=["group.*"]))
    assert changed.events == ["group.*"] and changed.description == "By a generated client"
    rotated = client.expect(200, "rotate_webhook_secret", created.id)
    left = rotated.previous_valid_until - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(hours=23, minutes=55) < left <= datetime.timedelta(hours=24)
    report = client.expect(200, "test_webhook", created.id)
    assert (report.status_code, report.error) == (200, None)
    test = receiver.wait(path, lambda it: it.headers["x-scaikey-webhook-id"] == str(report.delivery_id))
    assert signatures(test)[1] == [signed_with(rotated.secret, test), signed_with(created.secret, test)]

    stats = client.expect(200, "get_webhook_stats", created.id, window="1h")
    assert (stats.succeeded, stats.failed, stats.success_rate, stats.window) == (2, 0, 1.0, "1h")
    assert stats.by_status_code["200"] == 2 and sum(point.succeeded for point in stats.series) == 2

    assert client.call("delete_webhook", created.id)[0] == 204
    assert client.expect(404, "get_webhook", created.id).detail == "Webhook not found"


def test_the_generated_client_reads_errors(generated, server, tenant_admin, own_tenant):
    client = Client(generated, server.url, tenant_admin)
    wanted = client.models.WebhookCreate(url="http://169.254.169.254/", events=["user.*", "no type"])
    problem = client.expect(422, "create_webhook", body=wanted).detail[0]
    assert (problem.loc, problem.type_) == (["body", "events", 1], "value_error")
    wanted = client.models.WebhookCreate(url="http://169.254.169.254/", events=["user.*"])
    problem = client.expect(422, "create_webhook", body=wanted).detail[0]
    assert (problem.loc, problem.type_) == (["body", "url"], "value_error")
    assert client.expect(422, "list_webhooks", per_page=101).detail[0].loc == ["query", "per_page"]

    viewer = server.call("POST", "/v1/api-keys", {"tenant_id": own_tenant, "name": "viewer", "role": "viewer"})["key"]
    refused = Client(generated, server.url, viewer).expect(403, "list_webhooks")
    assert refused.detail == "Platform token requires admin:read or admin:write scope"
    assert isinstance(Client(generated, server.url, "nobody").expect(401, "list_webhooks").detail, str)


def test_a_partners_webhook_by_the_generated_client(generated, server, receiver):
    partner = server.call("POST", "/v1/partners", {"name": "Partner"})["id"]
    new = lambda name: server.call("POST", "/v1/tenants", {"name": name, "partner_id": partner})["id"]
    tenants = [new("One"), new("Two")]
    client = Client(generated, server.url, server.admin_key)
    path = f"/generated/{next(Endpoint.numbers)}"
    wanted = client.models.WebhookCreate(url=receiver.url(path), events=["*"], partner_id=partner)
    created = client.expect(201, "create_webhook", body=wanted)
    assert (created.tenant_id, created.partner_id) == (None, partner)
    for tenant in tenants:
        server.call("POST", "/v1/events", {"tenant_id": tenant, "type": "user.created", "data": {"id": tenant}})
    for tenant in tenants:
        body = receiver.wait(path, lambda it: tenant.encode() in it.body).body
        assert tenant.replace("ten_", "tnt_").encode() in body
    assert client.expect(200, "list_webhooks", partner_id=partner).total == 1
    assert client.expect(200, "list_webhooks", tenant_id=tenants[0]).total == 0
