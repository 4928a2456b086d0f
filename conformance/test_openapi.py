"""schemathesis drives every operation of the served OpenAPI document: no 5xx, no undocumented status or shape."""

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


def explore(server, key):
    command = [
        *(program("schemathesis"), "run", f"{server.url}/openapi.json"),
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
