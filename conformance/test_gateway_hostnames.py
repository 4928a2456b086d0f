"""The life of a tenant hostname, over connections of ours: what is sent as `Host`, and by whom, is ours to choose."""

import http.client
import json
import urllib.parse

import pytest
from gateway import KEY, Gateway, Postgres, Sqlite

# Linux answers on all of 127.0.0.0/8, so a peer has the address that it says it has.
PROXY, STRANGER = "127.0.0.2", "127.0.0.3"
DOMAIN = "gw.example.com"


@pytest.fixture(scope="module")
def gateway():
    gateway = Gateway(POSTRIDER_TRUSTED_PROXIES=PROXY, POSTRIDER_TENANT_HOST_PATTERN=f"*.{DOMAIN}")
    yield gateway
    gateway.stop()


class Reply:
    def __init__(self, reply):
        self.status, self.headers, text = reply.status, reply.headers, reply.read()
        self.body = json.loads(text) if text else None
        self.code = (self.body or {}).get("code")


class Caller:
    """Fetches under a hostname and says whose rows it got."""

    def __init__(self, gateway, key):
        self.gateway, self.key = gateway, key

    def send(self, host, more=(), peer=STRANGER, path="/gateway/fetch"):
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=20, source_address=(peer, 0))
        body = json.dumps({"table_name": "whose"}).encode()
        try:
            connection.putrequest("POST", path, skip_host=True, skip_accept_encoding=True)
            fields = [("content-type", "application/json"), ("content-length", str(len(body))), (KEY, self.key), *more]
            for name, value in fields if host is None else [("Host", host), *fields]:
                connection.putheader(name, value)
            connection.endheaders(body)
            return Reply(connection.getresponse())
        finally:
            connection.close()

    def whose(self, host, more=(), peer=STRANGER):
        reply = self.send(host, more, peer)
        if reply.status != 200:
            return (reply.status, reply.code)
        name = reply.body["data"][0]["name"]
        assert reply.headers["x-athena-client"] == name
        return name


def furnish(gateway, name, backend=Sqlite):
    database = backend(gateway.files.name)
    database.run("create table whose (name text)")
    database.run(f"insert into whose values ('{name}')")
    gateway.client(name, database)
    return database


@pytest.fixture(scope="module")
def caller(gateway):
    """Of three clients: `acme`, whose hostname is its name, `beta`, whose hostname is `shop`, and `bare`, without one."""
    for name in ("acme", "beta", "bare"):
        furnish(gateway, name)
    gateway.admin("PUT", "/admin/tenant-hostnames/acme")
    gateway.admin("PUT", "/admin/tenant-hostnames/shop", {"client_name": "beta"})
    wanted = {"name": "conformance", "rights": ["*"]}
    return Caller(gateway, gateway.admin("POST", "/admin/api-keys", wanted)["api_key"])


NOBODY = (400, "missing_client_header")


@pytest.mark.parametrize(
    ("host", "whose"),
    [
        (f"acme.{DOMAIN}", "acme"),
        (f"ACME.{DOMAIN.upper()}", "acme"),
        (f"acme.{DOMAIN}:8443", "acme"),
        (f"acme.{DOMAIN}.", "acme"),
        (f"Acme.{DOMAIN}.:443", "acme"),
        (f"shop.{DOMAIN}", "beta"),
        # A client's own name is no hostname, unless a route has it.
        (f"beta.{DOMAIN}", NOBODY),
        (f"bare.{DOMAIN}", NOBODY),
        (f"nobody.{DOMAIN}", NOBODY),
        (f"a.acme.{DOMAIN}", NOBODY),
        (f".acme.{DOMAIN}", NOBODY),
        (f"acme.{DOMAIN}..", NOBODY),
        (f"acme{DOMAIN}", NOBODY),
        (f"acme.{DOMAIN}.evil.example", NOBODY),
        (f"acme.v3.athena-cluster.com", NOBODY),
        (DOMAIN, NOBODY),
        (f".{DOMAIN}", NOBODY),
        (f"acme.{DOMAIN}:port", NOBODY),
        (f"{'a' * 65}.{DOMAIN}", NOBODY),
        ("[::1]", NOBODY),
        ("[::1]:8080", NOBODY),
        (f"[acme.{DOMAIN}]", NOBODY),
        ("::1", NOBODY),
        ("127.0.0.1", NOBODY),
    ],
)
def test_a_host_stands_for_the_client_of_its_route_or_for_nobody(caller, host, whose):
    assert caller.whose(host) == whose
    # Forwarding changes nothing of how it is read.
    if host:
        assert caller.whose("inside", [("X-Forwarded-Host", host)], PROXY) == whose


def test_a_request_without_a_host_or_with_two_is_answered_and_finds_at_most_the_first(caller):
    assert caller.send(None).status == 400
    twice = caller.whose(f"acme.{DOMAIN}", [("Host", f"shop.{DOMAIN}")])
    assert twice == "acme" or twice[0] == 400


@pytest.mark.parametrize(
    ("more", "trusted"),
    [
        ([("X-Forwarded-Host", f"acme.{DOMAIN}")], "acme"),
        ([("X-Forwarded-Host", f"ACME.{DOMAIN}:443")], "acme"),
        ([("X-Forwarded-Host", f"acme.{DOMAIN}, shop.{DOMAIN}")], "acme"),
        ([("X-Forwarded-Host", f"inside, acme.{DOMAIN}")], NOBODY),
        ([("Forwarded", f"host=acme.{DOMAIN}")], "acme"),
        ([("Forwarded", f'for=192.0.2.1;proto=https;Host="acme.{DOMAIN}:443";by=203.0.113.9')], "acme"),
        ([("Forwarded", f"for=192.0.2.1, for=192.0.2.2;host=acme.{DOMAIN}")], "acme"),
        ([("Forwarded", f"host=acme.{DOMAIN}, host=shop.{DOMAIN}")], "acme"),
        ([("Forwarded", 'for="[2001:db8::1]";host="[2001:db8::2]:80"')], NOBODY),
        ([("X-Forwarded-Host", f"nobody.{DOMAIN}"), ("Forwarded", f"host=shop.{DOMAIN}")], "beta"),
        ([("X-Forwarded-Host", f"shop.{DOMAIN}"), ("Forwarded", f"host=acme.{DOMAIN}")], "beta"),
        ([("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "192.0.2.1"), ("X-Host", f"acme.{DOMAIN}")], NOBODY),
    ],
)
def test_forwarded_hosts_count_from_a_trusted_proxy_and_from_nobody_else(caller, more, trusted):
    assert caller.whose("inside:8080", more, PROXY) == trusted
    assert caller.whose("inside:8080", more, STRANGER) == NOBODY
    # Whom a stranger really asked stays who it is; and of a proxy, `Host` goes first.
    for peer in (STRANGER, PROXY):
        assert caller.whose(f"shop.{DOMAIN}", more, peer) == "beta"


def test_the_header_wins_over_the_hostname(caller):
    host = f"acme.{DOMAIN}"
    assert caller.whose(host, [("X-Athena-Client", "BARE")]) == "bare"
    assert caller.whose(host, [("X-Athena-Client", "nobody")]) == (400, "unknown_client")
    assert caller.whose(host, [("X-Athena-Client", "  ")]) == "acme"


def test_a_hostname_selects_the_client_and_opens_nothing(gateway, caller):
    host = f"acme.{DOMAIN}"
    assert Caller(gateway, "nonsense").whose(host) == (401, "invalid_api_key")
    assert Caller(gateway, gateway.key("beta")).whose(host) == (403, "forbidden")
    assert Caller(gateway, gateway.key("acme", ["other.read"])).whose(host) == (403, "forbidden")
    assert Caller(gateway, gateway.key("acme", ["whose.read"])).whose(host) == "acme"
    # Under `/public` the key of the path decides.
    reply = caller.send(host, path="/public/shop/fetch")
    assert (reply.status, reply.body["data"]) == (200, [{"name": "beta"}])
    # The administration goes by its header alone.
    assert caller.send(host, path="/admin/webhooks").status == 401


def ask(gateway, domain):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    try:
        connection.request("GET", f"/admin/tenant-hostnames/ask?domain={urllib.parse.quote(domain, safe='')}")
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_tenant_comes_and_goes(gateway, caller):
    name, host = "passing", f"passing.{DOMAIN}"

    def stands(answer, known):
        assert (caller.whose(host), ask(gateway, host)) == (answer, 200 if known else 404)

    stands(NOBODY, False)
    unknown = gateway.admin("PUT", f"/admin/tenant-hostnames/{name}", expect=404)
    assert (unknown["code"], unknown["message"]) == ("unknown_client", "Unknown client")
    furnish(gateway, name)
    stands(NOBODY, False)
    made = gateway.admin("PUT", f"/admin/tenant-hostnames/{name.upper()}", {})
    assert (made["tenant"], made["derived_host"], made["wildcard_pattern"]) == (name, host, f"*.{DOMAIN}")
    assert made["postgres_binding"] is None, "there is no PostgreSQL"
    route = made["http_route"]
    assert (route["route_key"], route["allowed_ops"], route["is_active"]) == (name, ["fetch"], True)
    stands(name, True)
    assert gateway.admin("PUT", f"/admin/tenant-hostnames/{name}")["http_route"] == route, "nothing has changed"
    for domain in (host.upper(), f"{host}.", f"{host}:443"):
        assert ask(gateway, domain) == 200
    for domain in (f"a.{host}", "[::1]", f"{host}.evil.example", "passing", f"*.{DOMAIN}", "x" * 5000):
        assert ask(gateway, domain) == 404

    # Put to sleep, woken by being onboarded again, moved to another client and back.
    gateway.admin("PATCH", f"/admin/public-routes/{name}", {"is_active": False})
    stands(NOBODY, False)
    gateway.admin("PUT", f"/admin/tenant-hostnames/{name}", {"allowed_ops": ["fetch"]})
    stands(name, True)
    gateway.admin("PUT", f"/admin/tenant-hostnames/{name}", {"client_name": "beta"})
    stands("beta", True)
    gateway.admin("PUT", f"/admin/tenant-hostnames/{name}", {"client_name": name})
    stands(name, True)

    # A client that may not be used.
    gateway.admin("PUT", f"/admin/clients/{name}/freeze", {"is_frozen": True})
    stands((400, "ineligible_client"), False)
    assert gateway.admin("PUT", f"/admin/tenant-hostnames/{name}", expect=400)["code"] == "ineligible_client"
    gateway.admin("PUT", f"/admin/clients/{name}/freeze", {"is_frozen": False})
    gateway.admin("PATCH", f"/admin/clients/{name}", {"is_active": False})
    stands((400, "ineligible_client"), False)
    gateway.admin("PATCH", f"/admin/clients/{name}", {"is_active": True})
    stands(name, True)

    # Without its route; and with its client deleted, whose route stays until somebody else is given it.
    gateway.admin("DELETE", f"/admin/public-routes/{name}")
    stands(NOBODY, False)
    gateway.admin("PUT", f"/admin/tenant-hostnames/{name}")
    stands(name, True)
    gateway.admin("DELETE", f"/admin/clients/{name}")
    stands((400, "ineligible_client"), False)
    assert caller.send("inside", path=f"/public/{name}/fetch").code == "ineligible_client"
    # Whoever is called so next is somebody else.
    furnish(gateway, name)
    stands((400, "ineligible_client"), False)
    gateway.admin("PUT", f"/admin/tenant-hostnames/{name}")
    stands(name, True)


def test_with_its_tenant_a_hostname_is_gone(gateway, caller):
    furnish(gateway, "leaving")
    tenant = next(it for it in gateway.admin("GET", "/admin/clients")["clients"] if it["client_name"] == "leaving")
    gateway.admin("PUT", "/admin/tenant-hostnames/leaving")
    host = f"leaving.{DOMAIN}"
    assert (caller.whose(host), ask(gateway, host)) == ("leaving", 200)
    gateway.call("DELETE", f"/v1/tenants/{tenant['tenant_id']}")
    assert (caller.whose(host), ask(gateway, host)) == (NOBODY, 404)
    assert caller.send("inside", path="/public/leaving/fetch").status == 404
    assert caller.whose("inside", [("X-Athena-Client", "leaving")]) == (400, "unknown_client")
    names = [it["client_name"] for it in gateway.admin("GET", "/admin/clients")["clients"]]
    assert "leaving" not in names


def test_the_onboarding_call_tells_where_postgres_is(gateway, caller):
    database = furnish(gateway, "booked", Postgres)
    try:
        where = database.server
        target = {"host": where.hostname, "port": where.port or 5432}
        public = {"host": "db.invalid", "port": 6432}
        body = {"public_host": "DB.invalid.", "public_port": 6432}
        made = gateway.admin("PUT", "/admin/tenant-hostnames/booked", body)
        bound = made["postgres_binding"]
        expected = {
            "route_key": "booked", "client_name": "booked", "target": target, "public": public, "protocol": "postgresql/tcp",
        }
        assert bound["binding"] == expected and bound["persisted_in_catalog"]
        assert bound["public_pg_uri"].endswith(f"@db.invalid:6432/{database.database}")
        assert bound["dns"]["host"] == "db.invalid" and not bound["dns"]["resolves"] and bound["dns"]["records"] == []
        assert bound["dns"]["error"], "that it does not resolve is told, and no error"
        clients = gateway.admin("GET", "/admin/clients")["clients"]
        network = next(it for it in clients if it["client_name"] == "booked")["metadata"]["network"]
        assert network["pg_route_bindings"] == {"booked": expected} and network["public_port"] == 6432
        private = network["private_pg_uri"]
        # Another one is added, and what is private stays.
        again = gateway.admin("PUT", "/admin/tenant-hostnames/second", {
            "client_name": "booked", "enable_http_route": False, "public_host": "localhost",
        })
        assert again["http_route"] is None and again["postgres_binding"]["dns"]["resolves"]
        families = {it["family"] for it in again["postgres_binding"]["dns"]["records"]}
        assert families and families <= {"ipv4", "ipv6"}
        clients = gateway.admin("GET", "/admin/clients")["clients"]
        network = next(it for it in clients if it["client_name"] == "booked")["metadata"]["network"]
        assert sorted(network["pg_route_bindings"]) == ["booked", "second"] and network["private_pg_uri"] == private
        # There is no HTTP under a name that was made for PostgreSQL alone.
        assert caller.whose(f"second.{DOMAIN}") == NOBODY and caller.whose(f"booked.{DOMAIN}") == "booked"
    finally:
        gateway.admin("DELETE", "/admin/clients/booked")
        database.remove()


@pytest.mark.parametrize(
    ("tenant", "body", "code"),
    [
        ("acme", {"enable_http_route": False, "enable_postgres_binding": False}, "nothing_to_do"),
        ("acme", {"enable_http_route": False, "target_url": "https://example.com/"}, "nothing_to_do"),
        ("acme", {"allowed_ops": []}, None),
        ("acme", {"allowed_ops": ["drop"]}, None),
        ("acme", {"target_url": "ftp://example.com/"}, None),
        ("acme", {"public_port": 70000}, None),
        ("acme", {"enable_postgres_binding": True}, None),
        ("acme", {"route_metadata": {"contract": {"fetch": {"tabels": ["whose"]}}}}, None),
        ("a.b", {"client_name": "acme"}, None),
        ("a%2Fb", {"client_name": "acme"}, None),
        ("a" * 65, {"client_name": "acme"}, None),
        ("a b", {"client_name": "acme"}, None),
    ],
)
def test_what_cannot_be_a_hostname_is_refused_and_changes_nothing(gateway, caller, tenant, body, code):
    before = gateway.admin("GET", "/admin/public-routes")
    told = gateway.admin("PUT", f"/admin/tenant-hostnames/{tenant}", body, expect=400)
    assert code is None or told["code"] == code
    assert gateway.admin("GET", "/admin/public-routes") == before


def test_switched_off_no_hostname_stands_for_anybody():
    gateway = Gateway(POSTRIDER_TENANT_HOST_PATTERN="off")
    try:
        furnish(gateway, "acme")
        assert gateway.admin("PUT", "/admin/tenant-hostnames/acme", expect=400)["code"] == "tenant_hostnames_disabled"
        gateway.admin("POST", "/admin/public-routes", {"route_key": "acme", "client_name": "acme", "allowed_ops": ["fetch"]})
        caller = Caller(gateway, gateway.key("acme"))
        for domain in (DOMAIN, "v3.athena-cluster.com"):
            assert caller.whose(f"acme.{domain}") == NOBODY and ask(gateway, f"acme.{domain}") == 404
    finally:
        gateway.stop()
