"""schemathesis drives every operation of the served OpenAPI documents: no 5xx, no undocumented status or shape."""

import subprocess

from conftest import program

CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
    ]
)


NATIVE, SCAIKEY = "/openapi.json", "/api/v1/admin/openapi.json"


def explore(server, key, document=NATIVE):
    command = [
        *(program("schemathesis"), "run", server.url + document),
        *("--header", f"Authorization: Bearer {key}"),
        *("--checks", CHECKS, "--seed", "20261121", "--max-examples", "25", "--phases", "examples,coverage,fuzzing,stateful"),
        # An event stream without end: every call would last until its timeout. The black box listens to it.
        *("--exclude-path", "/v1/listen"),
        *("--generation-database", "none", "--workers", "2", "--request-timeout", "20", "--no-color"),
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
