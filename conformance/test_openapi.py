"""schemathesis drives every operation of the served OpenAPI documents: no 5xx, no undocumented status or shape."""

import os
import subprocess

import pytest
from conftest import program
from gateway import ADMIN, BACKENDS, CLIENT, KEY, Gateway, Sqlite

CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)

# For a longer look by hand.
SEED, EXAMPLES = os.environ.get("POSTRIDER_TEST_SEED", "20261121"), os.environ.get("POSTRIDER_TEST_EXAMPLES", "25")
NATIVE, SCAIKEY = "/openapi.json", "/api/v1/admin/openapi.json"


def explore(server, key=None, document=NATIVE, headers=None):
    headers = headers or {"Authorization": f"Bearer {key}"}
    command = [
        *(program("schemathesis"), "run", server.url + document),
        *(word for name, value in headers.items() for word in ("--header", f"{name}: {value}")),
        *("--checks", CHECKS, "--seed", SEED, "--max-examples", EXAMPLES, "--phases", "examples,coverage,fuzzing,stateful"),
        # An event stream without end: every call would last until its timeout. The black box listens to it.
        *("--exclude-path", "/v1/listen"),
        # One worker: Python before 3.11.5 counts the depth of its parser for all threads together, and gives up at random.
        *("--generation-database", "none", "--workers", "1", "--request-timeout", "20", "--no-color"),
        *("--suppress-health-check", "all", "--warnings", "off"),
    ]
    ran = subprocess.run(command, cwd=server.home.name, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, f"{ran.stdout[-12000:]}\n{ran.stderr[-2000:]}"
    print(ran.stdout[-1500:])
    assert "panicked" not in server.said(), server.said()[-4000:]


def test_the_api_is_as_documented_for_the_platform_admin(fresh_server):
    fresh_server.call("POST", "/v1/tenants", {"name": "Explored"})
    explore(fresh_server, fresh_server.admin_key)


def test_the_api_is_as_documented_for_a_tenants_owner(fresh_server):
    tenant = fresh_server.call("POST", "/v1/tenants", {"name": "Explored"})["id"]
    body = {"tenant_id": tenant, "name": "explorer", "role": "owner"}
    explore(fresh_server, fresh_server.call("POST", "/v1/api-keys", body)["key"])


def test_without_credentials_every_operation_is_refused_as_documented(fresh_server):
    explore(fresh_server, "sk_live_nobody")


def furnished(server, receiver):
    """A tenant of a partner, with a webhook and a delivery to be found."""
    partner = server.call("POST", "/v1/partners", {"name": "Explored"})["id"]
    tenant = server.call("POST", "/v1/tenants", {"name": "Explored", "partner_id": partner})["id"]
    server.call("PUT", "/v1/event-types/user.created", {"schema": {"type": "object"}, "example": {"id": "u1"}})
    webhook = {"tenant_id": tenant, "url": receiver.url("/explored"), "events": ["*"], "dialect": "scaikey"}
    server.call("POST", "/v1/webhooks", webhook)
    server.call("POST", "/v1/events", {"tenant_id": tenant, "type": "user.created", "data": {"id": "u1"}})
    return tenant


def key_of(server, tenant, role):
    body = {"tenant_id": tenant, "name": role, "role": role}
    return server.call("POST", "/v1/api-keys", body)["key"]


def test_scaikey_is_as_documented_for_the_platform_admin(fresh_server, receiver):
    furnished(fresh_server, receiver)
    explore(fresh_server, fresh_server.admin_key, SCAIKEY)


def test_scaikey_is_as_documented_for_a_tenants_admin(fresh_server, receiver):
    explore(fresh_server, key_of(fresh_server, furnished(fresh_server, receiver), "admin"), SCAIKEY)


def test_scaikey_is_as_documented_for_who_administers_nothing(fresh_server, receiver):
    explore(fresh_server, key_of(fresh_server, furnished(fresh_server, receiver), "viewer"), SCAIKEY)


def test_scaikey_is_as_documented_without_credentials(fresh_server, receiver):
    furnished(fresh_server, receiver)
    explore(fresh_server, "nobody", SCAIKEY)


ATHENA = "/admin/openapi.json"


@pytest.fixture(params=[Sqlite], ids=lambda backend: backend.name)
def gateway(request, receiver):
    """With a client, a webhook and two routes to be found."""
    gateway = Gateway()
    database = request.param(gateway.files.name)
    database.run(f"create table orders (id {database.key}, sku text unique, n integer)")
    database.run("insert into orders (sku, n) values ('a', 1), ('b', 2)")
    gateway.client("Explored", database)
    wanted = {"name": "W", "route_key": "gateway_insert", "http_method": "POST", "url_template": receiver.url("/explored")}
    gateway.admin("POST", "/admin/webhooks", wanted, client="Explored")
    contract = {"fetch": {"anonymous": True, "tables": {"orders": {"columns": ["id", "sku"], "filters": {"sku": ["eq"]}}}}}
    route = {"client_name": "Explored", "allowed_ops": ["fetch", "insert"]}
    gateway.admin("POST", "/admin/public-routes", {**route, "route_key": "open", "metadata": {"contract": contract}})
    gateway.admin("POST", "/admin/public-routes", {**route, "route_key": "keyed"})
    gateway.explored = database
    yield gateway
    gateway.stop()
    database.remove()


def explore_gateway(gateway, **headers):
    explore(gateway, headers={CLIENT: "Explored", **headers}, document=ATHENA)


def test_the_gateway_is_as_documented_for_its_admin(gateway):
    explore_gateway(gateway, **{ADMIN: gateway.admin_key})


@pytest.mark.parametrize("gateway", BACKENDS, ids=lambda backend: backend.name, indirect=True)
def test_the_gateway_is_as_documented_for_who_has_a_key_of_the_client(gateway):
    explore_gateway(gateway, **{KEY: gateway.key("Explored")})


def test_the_gateway_is_as_documented_for_who_may_only_read(gateway):
    before = gateway.explored.run("select * from orders order by id")
    explore_gateway(gateway, **{KEY: gateway.key("Explored", ["*.read"])})
    assert gateway.explored.run("select * from orders order by id") == before


def test_the_gateway_is_as_documented_without_credentials(gateway):
    before = gateway.explored.run("select * from orders order by id")
    explore_gateway(gateway, **{KEY: "nobody"})
    assert gateway.explored.run("select * from orders order by id") == before
