"""The workflow that the contract of the data gateway recommends, step by step, on PostgreSQL and on a SQLite file."""

import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest
import requests
from conftest import HERE, Delivery, one_byte_changes, until
from gateway import BACKENDS, Gateway, verifies

SECRET = "a secret of the receiving service, 32"
ROUNDS = 6


@pytest.fixture(scope="module")
def gateway():
    gateway = Gateway()
    yield gateway
    gateway.stop()


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def database(request, gateway):
    database = request.param(gateway.files.name)
    database.run(f"create table orders (id {database.key}, sku text not null unique, n integer, channel text, hidden text)")
    yield database
    database.remove()


def hook_of(gateway, receiver, client, path, **more):
    wanted = {
        "name": "New orders", "route_key": "gateway_insert", "table_name": "orders", "http_method": "POST",
        "url_template": receiver.url(path) + "/{{payload.insert_body.sku}}", "secret": SECRET,
        "headers_templates": {"x-channel": "{{payload.insert_body.channel}}"},
        "body_template": '{"order": {{response.data.id}}, "sku": "{{payload.insert_body.sku}}", "by": "{{headers.x_user}}"}',
        **more,
    }
    saved = gateway.admin("POST", "/admin/webhooks", wanted, client=client)["webhook"]
    assert "secret" not in saved or SECRET not in json.dumps(saved), "a secret is never shown"
    return saved["id"]


def test_the_verifier_agrees_with_the_published_vector():
    headers = {
        "x-athena-delivery-timestamp": "1700000000", "x-athena-event-id": "evt_1",
        "x-athena-signature": "v1=3efa3be6cf2a27faa78e6170ce247195799201711a662baab749fb569772c287",
    }
    delivery = Delivery("/", headers, b'{"event_id":"evt_1","payload":"hello"}')
    assert verifies("test-secret", delivery) and not verifies("test-secret.", delivery)


def test_the_recommended_workflow_step_by_step(gateway, receiver, database):
    client, path = f"Shop-{database.name}", f"/workflow/{database.name}"
    made = gateway.client(client, database)
    assert made["client_name"] == client and made["is_active"] and not made["is_frozen"]

    # Register a webhook whose secret the receiving service knows.
    hook = hook_of(gateway, receiver, client, path)
    listed = gateway.admin("GET", "/admin/webhooks", client=client)
    assert (listed["total"], [it["id"] for it in listed["webhooks"]]) == (1, [hook])
    catalogue = gateway.admin("GET", "/admin/webhooks/events")["events"]
    assert "gateway_insert" in [it["route_key"] for it in catalogue]

    # Trigger a test delivery.
    tried = gateway.admin("POST", f"/admin/webhooks/{hook}/test", {
        "route_key": "gateway_insert", "table_name": "orders", "headers": {"x-user": "Zoë"},
        "payload": {"insert_body": {"sku": "try/1", "channel": "test"}}, "response": {"data": {"id": 0}},
    }, client=client)
    assert (tried["http_status"], tried["resolved_url"]) == (200, receiver.url(f"{path}/try%2F1"))
    delivery = receiver.wait(f"{path}/try%2F1")
    assert json.loads(delivery.body) == {"order": 0, "sku": "try/1", "by": "Zoë"}
    assert delivery.headers["x-channel"] == "test" and delivery.headers["x-athena-event-type"] == "gateway_insert"
    assert verifies(SECRET, delivery) and not verifies("another secret", delivery)
    assert not any(verifies(SECRET, changed) for changed in one_byte_changes(delivery))

    # Inspect deliveries.
    deliveries = gateway.admin("GET", f"/admin/webhooks/{hook}/deliveries", client=client)
    assert deliveries["total"] == 1
    first = deliveries["deliveries"][0]
    assert (first["id"], first["status"], first["http_status"]) == (tried["delivery_id"], "success", 200)

    # Expose one operation that is safe to expose, and look at what that opens.
    contract = {"insert": {"anonymous": True, "tables": {
        "orders": {"columns": ["sku", "n"], "set": {"channel": "public"}, "returning": ["id", "sku"]},
    }}}
    route = f"new-order-{database.name}"
    wanted = {"route_key": route, "client_name": client, "allowed_ops": ["insert"], "metadata": {"contract": contract}}
    gateway.admin("POST", "/admin/public-routes", wanted, expect=201)
    exposed = gateway.admin("GET", f"/admin/public-routes/{route}/exposure")
    assert [it["operation"] for it in exposed["operations"]] == ["insert"] and exposed["samples"] == []

    # Call it as a stranger; the webhook arrives.
    order = {"table_name": "orders", "insert_body": {"sku": "a 1", "n": 2}}
    reply = gateway.public(f"{route}/insert", order, headers={"x-user": "u-7", "x-request-id": "asked-1"})
    assert reply.status_code == 200, reply.text
    said = reply.json()
    assert (said["status"], said["success"], said["table_name"]) == ("success", True, "orders")
    assert said["data"] == {"id": said["resource_id"], "sku": "a 1"}
    assert reply.headers["x-athena-client"] == client
    assert database.run("select id, sku, n, channel from orders") == [[said["resource_id"], "a 1", 2, "public"]]
    fired = receiver.wait(f"{path}/a%201")
    assert json.loads(fired.body) == {"order": said["resource_id"], "sku": "a 1", "by": "u-7"}
    assert fired.headers["x-channel"] == "public" and verifies(SECRET, fired)

    # What it does not expose is refused, and changes nothing.
    for operation, body, code in [
        ("insert", {"table_name": "orders", "insert_body": {"sku": "b", "channel": "mine"}}, "contract_violation"),
        ("fetch", {"table_name": "orders"}, "op_not_allowed"),
    ]:
        refused = gateway.public(f"{route}/{operation}", body)
        assert (refused.status_code, refused.json()["code"]) == (403, code)
    again = gateway.public(f"{route}/insert", order)
    assert (again.status_code, again.json()["code"]) == (409, "unique_violation")
    assert len(database.run("select id from orders")) == 1

    # Only what succeeded has fired, and all of it is to be seen.
    def recorded():
        told = gateway.admin("GET", f"/admin/webhooks/{hook}/deliveries", client=client)["deliveries"]
        return told if [it["status"] for it in told] == ["success", "success"] else None

    last = until("both deliveries are recorded", recorded)[0]
    assert (last["trigger_route_key"], last["request_id"]) == ("gateway_insert", "asked-1")
    assert last["resolved_url"] == receiver.url(f"{path}/a%201") and len(last["idempotency_key"]) == 64
    assert last["context_snapshot"]["payload"]["insert_body"] == {"sku": "a 1", "n": 2, "channel": "public"}

    def logged():
        calls = gateway.admin("GET", f"/admin/public-routes/{route}/calls")["calls"]
        return calls if len(calls) == 4 else None

    calls = until("every call is in the log of the route", logged)
    assert [it["code"] for it in calls] == ["unique_violation", "op_not_allowed", "contract_violation", None]
    assert (calls[-1]["request_id"], calls[-1]["client_name"], calls[-1]["address"]) == ("asked-1", client, "127.0.0.1")


class Slow:
    """Answers nothing until its gate is open: what came before is lost with the connection."""

    def __init__(self):
        self.gate, self.orders = threading.Event(), []
        slow = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if not slow.gate.is_set():
                    self.close_connection = True
                    slow.gate.wait(60)
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                slow.orders.append(Delivery(self.path, headers, body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def ids(self):
        return [json.loads(it.body)["order"] for it in list(self.orders)]


class Writer(threading.Thread):
    """Inserts orders one after the other until the server is gone; what was answered 200, counts."""

    def __init__(self, gateway, client, key, prefix, enough):
        super().__init__(daemon=True)
        self.acknowledged, self.refused, self.enough = [], [], enough
        self.arguments = (gateway, client, key, prefix)

    def run(self):
        gateway, client, key, prefix = self.arguments
        for number in range(10_000):
            body = {"table_name": "orders", "insert_body": {"sku": f"{prefix}-{number}", "n": number}}
            try:
                reply = gateway.operate("PUT", "/gateway/insert", body, client, key)
            except requests.RequestException:
                return
            if reply.status_code == 200:
                self.acknowledged.append(reply.json()["resource_id"])
                self.enough.release()
            else:
                self.refused.append(reply.text)
                return


def test_after_a_200_a_crash_loses_no_webhook(database):
    """Killed right after a 200 again and again, while its receiver answers nothing at all until it is up again."""
    gateway, slow = Gateway(), Slow()
    try:
        if database.name == "sqlite":
            # The file must be in a directory of this server.
            database = type(database)(gateway.files.name)
            database.run(f"create table orders (id {database.key}, sku text not null unique, n integer, channel text)")
        gateway.client("shop", database)
        key = gateway.key("shop")
        hook_of(gateway, slow, "shop", "/crash")
        acknowledged = []
        for number in range(ROUNDS):
            slow.gate.clear()
            enough = threading.Semaphore(0)
            # One writer alone is killed right after its only 200; several, in the middle of their work.
            writers = [Writer(gateway, "shop", key, f"{number}-{it}", enough) for it in range(1 + number % 3 * 2)]
            for writer in writers:
                writer.start()
            for _ in range(1 if len(writers) == 1 else 10):
                assert enough.acquire(timeout=30), [writer.refused for writer in writers]
            gateway.kill()
            for writer in writers:
                writer.join(30)
                assert not writer.is_alive() and writer.refused == []
            this_round = [it for writer in writers for it in writer.acknowledged]
            assert this_round and not set(this_round) & set(slow.ids())
            acknowledged += this_round
            slow.gate.set()
            gateway.start()
            until(f"webhooks of round {number}", lambda: set(this_round) <= set(slow.ids()))
        rows = {row[0] for row in database.run("select id from orders")}
        assert set(acknowledged) <= rows and set(slow.ids()) <= rows, "an order was answered, or told, that is not there"
        assert all(verifies(SECRET, it) for it in slow.orders)
        print(f"{database.name}: {len(acknowledged)} answered in {ROUNDS} rounds, {len(rows)} inserted, {len(slow.orders)} told")
    finally:
        gateway.stop()


DOCS = HERE.parent / "docs"


def listings(page, heading):
    """The commands that a section of a page prints."""
    section = (DOCS / page).read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


@pytest.mark.skipif(not all(map(shutil.which, ["curl", "jq"])), reason="curl and jq are needed")
def test_the_pages_of_the_gateway_work_as_printed(gateway, receiver, tmp_path):
    serve, surroundings, register, look, expose = listings("gateway.md", "From nothing to a webhook")
    assert "postrider serve" in serve and "HTTPServer" in surroundings, "what the test does itself"
    first = (DOCS / "public-routes.md").read_text().split("## Administration")[0]
    (catalogue,) = re.findall(r"```sh\n(.*?)```", first, re.DOTALL)
    (log,) = listings("public-routes.md", "The log")
    (onboard,) = listings("tenant-hostnames.md", "Onboarding")
    products = "create table products (id integer primary key, sku text, price integer, cost integer)"
    furnish = f"""
curl -s $URL/gateway/query -H 'X-Athena-Client: shop' -H "X-Athena-Key: $GATEWAY_KEY" --json '{{"query":"{products}"}}'
"""
    script = "\n".join([register, look, expose, furnish, catalogue, log, onboard.replace("/acme", "/shop")])
    for printed, ours in [("'$PWD'/clients", gateway.files.name), ("http://127.0.0.1:3000", receiver.url("/printed"))]:
        assert printed in script
        script = script.replace(printed, ours)
    known = {"URL": gateway.url, "KEY": gateway.admin_key, "PATH": "/usr/local/bin:/usr/bin:/bin"}
    command = ["bash", "-euo", "pipefail", "-c", script]
    ran = subprocess.run(command, cwd=tmp_path, env=known, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr + ran.stdout
    # No reply was an error, and the receiver has printed what the page says.
    assert '"status":"error"' not in ran.stdout, ran.stdout
    assert '"http_status": 200' in ran.stdout and '"message":"Upserted tenant hostname"' in ran.stdout, ran.stdout
    bodies = [{"order": 0, "sku": "test"}, {"order": 1, "sku": "a-1"}]
    for body in bodies:
        receiver.wait("/printed/orders", lambda delivery: json.loads(delivery.body) == body)
