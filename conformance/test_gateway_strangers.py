"""A public route opened to strangers, over HTTP: whatever they send, only contracted columns and rows come back."""

import gzip
import http.client
import itertools
import json

import pytest
import requests
from conftest import until
from gateway import ADMIN, BACKENDS, CLIENT, KEY, Gateway, Postgres

# In every value that no stranger may see.
MARK = "never-to-be-seen"
SHOWN = {(1, "a"), (2, "b"), (3, "c"), (4, "d")}
CONTRACT = {
    "fetch": {"anonymous": True, "statement_timeout_ms": 5000, "tables": {
        "shown": {"columns": ["id", "sku"], "filters": {"sku": ["eq", "in"]}, "sorts": ["id"], "max_rows": 3},
        "orders": {"columns": ["id", "sku"], "filters": {"token": ["eq"]}, "required_filters": ["token"]},
    }},
    "insert": {"anonymous": True, "tables": {
        "orders": {"columns": ["sku", "n"], "set": {"channel": "stranger", "token": "t"}, "returning": ["sku"]},
    }},
    "update": {"anonymous": True, "tables": {
        "carts": {"columns": ["n"], "filters": {"token": ["eq"]}, "required_filters": ["token"], "returning": ["n"]},
    }},
    "query": {"anonymous": True, "statement": "select id, sku from shown where sku = :sku", "params": {"sku": "text"}},
}
GOOD = {
    "fetch": {
        "table_name": "shown", "columns": ["id", "sku"], "conditions": [{"eq_column": "sku", "eq_value": "a"}],
        "where_filters": [{"column": "sku", "operator": "in", "value": ["a", "b"]}],
        "sort_by": {"field": "id", "direction": "desc"}, "page_size": 3, "current_page": 1, "offset": 0,
    },
    "insert": {"table_name": "orders", "insert_body": {"sku": "s", "n": 1}},
    "update": {"table_name": "carts", "conditions": [{"eq_column": "token", "eq_value": "mine"}], "set": {"n": 2}},
    "query": {"params": {"sku": "a"}},
}
TABLES = [
    "orders", "carts", "secrets", "shown ", "SHOWN", '"shown"', "public.shown", "main.shown", "shown.shown", "shown;secrets",
    "shown,secrets", "shown secrets", "shown as s", "(select * from secrets)", "shown--", "shown/*", "shown\u0000", "sh\u043ewn",
    "information_schema.tables", "pg_catalog.pg_authid", "pg_shadow", "sqlite_master", "sqlite_schema", "main.sqlite_master",
    "temp.shown", "..", ".", "*", "shown*", "secrets?", "$1", "?", "`secrets`", "[secrets]", "secrets\r\n", "\ufeffshown",
]
TEXTS = [
    "' or '1'='1", "'; drop table orders; --", "' union select id, token from orders --", "a' --", "a'/*", "\\'; --", "\\",
    '"', "'", "''", '" or ""="', "a') or ('1'='1", "1; select pg_sleep(9)", "'||(select token from orders limit 1)||'",
    "%", "_", "%%", "a%", "*", "?", ":sku", "$1", "$$", "$a$", "@@version", "{{ATHENA.public.secrets.value}}", "${jndi:x}",
    "\r\nX-Injected: yes", "\r\n\r\n{}", "a\u0000b", "\u0000", "\ud7ff\ue000", "\u202e", "\ufeff", "\u2028", "🐎", "a" * 70,
    "a" * 10_000, "null", "NULL", "not_null", "true", "0", "-1", "1e999", "NaN", "0x1", "{}", "[]", "{\"a\":1}", "[\"a\",\"b\"]",
    "{a,b}", "\\x00", "\\u0000", "current_user", "(select 1)", "now()", "default", "../secrets", "%2e%2e", "%00", "<x>", "&", "a,b",
    "sku", "token", "note", "secret", "id,token", "id, (select token from orders) as sku", "count(*)", "sku::text", "rowid",
    "oid", "ctid", "xmin", "tableoid", "_rowid_", "sku\" from secrets --", "id\",\"token", "(shown).sku", "to_json(shown)",
]
SHAPES = [
    None, True, False, 0, -1, 1.5, 2**63, 2**64, 10**400, 1e308, "", [], {}, [[]], [{}], [None], ["id", ["token"]], {"a": {"b": []}},
    ["token"], ["*"], "*", "id,token", {"eq_column": "token", "eq_value": "x"}, {"token": 1}, {"raw": True},
    {"field": "token", "direction": "asc"}, [{"field": "token", "direction": "asc"}], {"field": "id", "direction": "asc; --"},
    [{"eq_column": "token", "eq_value": "x"}], [{"column": "token", "operator": "like", "value": "%"}],
    [{"column": "sku", "operator": "like", "value": "%"}], [{"column": "sku", "operator": "neq", "value": "a"}],
    [{"column": "sku", "operator": "is", "value": "not_null"}], [{"column": "sku", "operator": "in", "value": [["a"]]}],
    [{"column": "sku", "operator": "in", "value": {"select": "token"}}], [{"column": "sku", "operator": "eq", "value": {"a": 1}}],
    [{"column": "sku", "operator": "or 1=1 --", "value": 1}], {"sku": "x", "channel": "x"}, {"sku": "x", "token": "x"}, {"id": 999},
    {"SKU": "x"}, {"sku": "x", "note": "x"}, {"n": 1, "total": 5}, {"total": 5}, [{"n": 1}, {"total": 5}], {"": 1}, {"\u0000": 1},
]


@pytest.fixture(scope="module")
def gateway():
    gateway = Gateway()
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module", params=BACKENDS, ids=lambda backend: backend.name)
def shop(request, gateway):
    database = request.param(gateway.files.name)
    for statement in [
        f"create table orders (id {database.key}, sku text, n integer, channel text, token text, note text)",
        f"create table secrets (id {database.key}, value text)",
        f"create table carts (id {database.key}, token text, n integer, total integer)",
        f"insert into secrets (value) values ('{MARK} 1'), ('{MARK} 2')",
        "insert into carts (token, n, total) values ('mine', 1, 100), ('theirs', 1, 200)",
        *(f"insert into orders (sku, n, channel, token, note) values ('{sku}', 1, 'shown', '{MARK} token', '{MARK} note')"
          for sku in "abcd"),
        *(f"insert into orders (sku, n, channel, token) values ('{MARK} {n}', {n}, 'kept', '{MARK} kept')" for n in range(5)),
        "create view shown as select * from orders where channel = 'shown'",
    ]:
        database.run(statement)
    name = f"shop-{database.name}"
    gateway.client(name, database)
    operations = ["fetch", "insert", "update", "delete", "query"]
    wanted = {"route_key": name, "client_name": name, "allowed_ops": operations, "metadata": {"contract": CONTRACT}}
    gateway.admin("POST", "/admin/public-routes", wanted)
    database.route, database.asked = name, 0
    yield database
    database.remove()


class Stranger:
    """Keeps every reply to the promise."""

    def __init__(self, gateway, shop):
        self.url, self.session = f"{gateway.url}/public/{shop.route}", requests.Session()
        self.statuses, self.shop = {}, shop

    def ask(self, operation, body, **more):
        self.shop.asked += 1
        given = {"data": body} if isinstance(body, bytes) else {"json": body}
        if isinstance(body, bytes):
            more["headers"] = {"content-type": "application/json", **more.get("headers", {})}
        return self.judge(operation, body, self.session.post(f"{self.url}/{operation}", timeout=30, **given, **more))

    def judge(self, operation, body, reply):
        what = f"{operation} {str(body)[:400]}: {reply.status_code} {reply.text[:800]}"
        self.statuses[reply.status_code] = self.statuses.get(reply.status_code, 0) + 1
        assert MARK not in reply.text, what
        assert not any(MARK in value or name == "x-injected" for name, value in reply.headers.items()), what
        assert reply.status_code in (200, 400, 403, 404, 413), what
        told = reply.json()
        if reply.status_code != 200:
            assert told["status"] == "error" and told["code"], what
        elif operation in ("fetch", "query"):
            assert len(told["data"]) <= 3, what
            assert {tuple(row) for row in told["data"]} <= {("id", "sku"), ("id",), ("sku",)}, what
            ids, skus = {it[0] for it in SHOWN}, {it[1] for it in SHOWN}
            assert all(row.get("id", 1) in ids and row.get("sku", "a") in skus for row in told["data"]), what
        elif operation == "insert":
            assert list(told["data"]) == ["sku"], what
        elif operation == "update":
            assert all(list(row) == ["n"] for row in told["data"]) and len(told["data"]) <= 1, what
        else:
            raise AssertionError(f"nothing else is open: {what}")
        return reply


@pytest.fixture
def stranger(gateway, shop):
    return Stranger(gateway, shop)


@pytest.fixture(autouse=True)
def untouched(shop):
    """Nothing but what the contract lets strangers write has changed, whatever the test has sent."""
    look = lambda: (
        shop.run("select * from secrets order by id"), shop.run("select token, total from carts order by id"),
        shop.run("select * from orders where channel <> 'stranger' order by id"), shop.run("select n from carts where token = 'theirs'"),
    )
    before = look()
    yield
    assert look() == before
    added = shop.run("select distinct channel, token, note from orders where id > 9")
    assert added in ([], [["stranger", "t", None]]), added


def leaves(value, path=()):
    """Every place of a body: its members and theirs, and the names of members."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from leaves(inner, (*path, key))


def placed(body, path, value):
    copy = json.loads(json.dumps(body))
    target = copy
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return copy


def renamed(body, path, name):
    copy = json.loads(json.dumps(body))
    target = copy
    for key in path[:-1]:
        target = target[key]
    target[name] = target.pop(path[-1])
    return copy


def test_what_is_refused_takes_no_connection(gateway, shop, stranger):
    """The first test of the module: nothing has been allowed yet."""
    refused = [
        *(("fetch", {"table_name": name}) for name in TABLES if name not in ("orders",)),
        ("fetch", {"table_name": "orders"}), ("fetch", {"table_name": "shown", "columns": ["token"]}),
        ("fetch", {"table_name": "shown", "sort_by": {"field": "token"}}), ("insert", {"table_name": "carts", "insert_body": {}}),
        ("update", {"table_name": "carts", "set": {"n": 1}, "conditions": [{"eq_column": "id", "eq_value": 1}]}),
        ("delete", {"table_name": "orders", "resource_id": 1}), ("query", {"query": "select 1", "params": {"sku": "a"}}),
        ("query", {"params": {}}), ("query", {"query": "select 1"}), ("drop", {}),
    ]
    for _ in range(3):
        for operation, body in refused:
            assert stranger.ask(operation, body).status_code in (400, 403), (operation, body)
    runtime = gateway.admin("GET", "/admin/clients")["runtime"]
    assert [it["pool_connected"] for it in runtime if it["client_name"] == shop.route] == [False]
    if isinstance(shop, Postgres):
        others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        assert shop.run(others) == [[0]]


@pytest.mark.parametrize("operation", list(GOOD))
def test_the_good_request_is_answered(stranger, operation):
    assert stranger.ask(operation, GOOD[operation]).status_code == 200


@pytest.mark.parametrize("operation", list(GOOD))
def test_a_hostile_value_in_any_place_opens_nothing(stranger, operation):
    for path in leaves(GOOD[operation]):
        for value in itertools.chain(TEXTS, SHAPES, TABLES):
            stranger.ask(operation, placed(GOOD[operation], path, value))
    assert set(stranger.statuses) <= {200, 400, 403}, stranger.statuses
    print(operation, stranger.statuses)


@pytest.mark.parametrize("operation", list(GOOD))
def test_a_hostile_name_of_any_member_opens_nothing(stranger, operation):
    for path in leaves(GOOD[operation]):
        if isinstance(path[-1], str):
            for name in itertools.chain(TEXTS, TABLES, ["columns", "query", "raw", "data", "set", "params", "schema_name"]):
                stranger.ask(operation, renamed(GOOD[operation], path, name))
    print(operation, stranger.statuses)


def test_members_that_a_contract_does_not_know_open_nothing(stranger):
    extras = {
        "schema_name": ["public", "main", "pg_catalog", "secrets"], "raw": [True], "query": ["select * from secrets"],
        "statement": ["select * from secrets"], "columns": [["*"], "*", ["token"], "id,token"], "select": ["*"], "joins": [["secrets"]],
        "group_by": ["token"], "having": ["1=1"], "distinct": [True], "returning": [["*"], "*"], "metadata": [{"contract": None}],
        "contract": [None, {"fetch": {"tables": ["secrets"]}}], "limit": [10_000, 0, -1, "3; --"], "page_size": [10_000, 10_001],
        "offset": [10**9, -1], "current_page": [10**6, 0], "execution_mode": ["per_statement"], "client_name": ["other"],
        "resource_id": [1], "column_name": ["token"], "table": ["secrets"], "from": ["secrets"], "data": [{"note": "x"}],
    }
    for operation, (name, values) in itertools.product(GOOD, extras.items()):
        for value in values:
            stranger.ask(operation, {**GOOD[operation], name: value})
    many = stranger.ask("fetch", {"table_name": "shown", "limit": 10_000})
    assert many.status_code == 200 and len(many.json()["data"]) == 3


def test_bodies_that_are_no_plain_json_open_nothing(stranger):
    good = json.dumps(GOOD["fetch"]).encode()
    bodies = [
        b"", b" ", b"null", b"[]", b"1", b'"shown"', good + good, good + b"x", b"\xef\xbb\xbf" + good, good.decode().encode("utf-16"),
        good.replace(b"shown", b"sh\xffown"), good.replace(b'"shown"', b"'shown'"), good.replace(b'"shown"', b'"\\ud800"'),
        b'{"table_name":"shown","table_name":"secrets"}', b'{"table_name":"secrets","table_name":"shown"}',
        b'{"table_name":"shown","columns":["id"],"columns":["token"]}', b'{"table_name":"shown","columns":["token"],"columns":["id"]}',
        b'{"table_name":"shown","t\\u0061ble_name":"secrets"}', b'{"table_name":NaN}', b'{"table_name":"shown","offset":1e400}',
        b'{"table_name":"shown","limit":-0}', b"{" * 100_000, b"[" * 5_000_000, b'{"table_name":"shown","x":' + b"[" * 65 + b"]" * 65 + b"}",
        b'{"table_name":"shown","x":"' + b"a" * 4_000_000 + b'"}', gzip.compress(good), b"table_name=shown", b"--x\r\n", good[:-1],
    ]
    for operation, body in itertools.product(GOOD, bodies):
        stranger.ask(operation, body)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=utf-16"):
        stranger.ask("fetch", good, headers={"content-type": kind})
    stranger.ask("fetch", gzip.compress(good), headers={"content-encoding": "gzip"})
    print(stranger.statuses)


def test_headers_open_nothing(gateway, shop, stranger):
    refused = {"table_name": "secrets"}
    for name, value in [
        (CLIENT, "other"), (KEY, "nobody"), (KEY, f"ath_{'0' * 16}.{'0' * 64}"), (ADMIN, "wrong"), ("authorization", "Bearer x"),
        ("x-http-method-override", "DELETE"), ("x-original-url", "/admin/clients"), ("x-rewrite-url", "/gateway/query"),
        ("x-forwarded-host", "x"), ("x-forwarded-for", "127.0.0.1"), ("host", "admin"), ("x-request-id", "r" * 4000),
        ("cookie", "admin=1"), ("x-athena-proxy-hop", "1"), ("idempotency-key", "k"), ("expect", "nothing"), ("origin", "null"),
    ]:
        stranger.ask("fetch", GOOD["fetch"], headers={name: value})
        assert stranger.ask("fetch", refused, headers={name: value}).status_code in (400, 403), name
    # A key, and even the admin key, widens no contract.
    for headers in ({KEY: gateway.key(shop.route)}, {ADMIN: gateway.admin_key}, {KEY: gateway.admin_key}):
        assert stranger.ask("fetch", refused, headers=headers).status_code == 403
        assert stranger.ask("delete", {"table_name": "orders", "resource_id": 1}, headers=headers).status_code == 403


def raw(gateway, method, path, headers=(), body=b""):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
    # Python would refuse some of these for us.
    connection._validate_path = lambda _: None
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in [("content-length", str(len(body))), *headers]:
            connection.putheader(name, value)
        connection.endheaders(body)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def test_paths_lead_nowhere_else(gateway, shop):
    route, body = shop.route, json.dumps({"table_name": "secrets", "query": "select * from secrets", "params": {}}).encode()
    for path in [
        f"/public/{route}/fetch/", f"/public/{route}//fetch", f"//public/{route}/fetch", f"/public/{route}/fetch/../query",
        f"/public/{route}/../../gateway/query", f"/public/{route}%2ffetch", f"/public/{route}/%66etch", f"/public/{route}/fetch%00",
        f"/public/{route}/FETCH", f"/public/{route}/fetch?table_name=secrets&x-athena-admin-key=x", f"/public/{route}/fetch;a=b",
        f"/public/{route}/fetch%2f..%2fquery", "/public/..%2fgateway%2fquery/fetch", "/public/%2e%2e/gateway/query", "/public//fetch",
        "/public/fetch", "/public/", "/public", f"/public/{route}", f"/public/{'a' * 5000}/fetch", "/public/%ff%fe/fetch",
        f"/public/{route.upper()}/fetch", f"/public/%20{route}%20/fetch", "/public/a%0d%0ab/fetch", f"/gateway/fetch?client={route}",
    ]:
        for method in ("POST", "GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            status, text = raw(gateway, method, path, [("content-type", "application/json")], body)
            assert MARK not in text and (status != 200) and status < 500, (method, path, status, text)


def test_the_rest_needs_a_key(gateway, shop):
    for method, path in [
        ("POST", "/gateway/fetch"), ("POST", "/gateway/data"), ("PUT", "/gateway/insert"), ("POST", "/gateway/update"),
        ("DELETE", "/gateway/delete"), ("POST", "/gateway/query"), ("GET", "/admin/clients"), ("GET", "/admin/public-routes"),
        ("GET", f"/admin/public-routes/{shop.route}/exposure"), ("GET", f"/admin/public-routes/{shop.route}/calls"),
        ("PATCH", f"/admin/public-routes/{shop.route}"), ("GET", "/admin/webhooks"), ("GET", "/admin/api-keys"),
    ]:
        reply = requests.request(method, gateway.url + path, json={"table_name": "shown"}, headers={CLIENT: shop.route}, timeout=30)
        assert reply.status_code == 401 and MARK not in reply.text, (method, path, reply.text)


def test_everything_was_logged_as_it_was_answered(gateway, shop, stranger):
    """The last test of the module."""
    replies = [stranger.ask(operation, body) for operation, body in [
        ("fetch", GOOD["fetch"]), ("fetch", {"table_name": "secrets"}), ("drop", {}), ("query", {"params": {"sku": TEXTS[0]}}),
    ]]
    expected = [(it.headers["x-request-id"], it.status_code, it.json().get("code")) for it in replies]
    page = lambda cursor: gateway.admin("GET", f"/admin/public-routes/{shop.route}/calls?limit=200&cursor={cursor}")
    told = lambda calls: [(it["request_id"], it["http_status"], it["code"]) for it in calls]
    # Calls do not wait for the log.
    until("the last calls are in the log", lambda: told(page("")["calls"])[: len(expected)] == expected[::-1])
    seen, cursor = set(), ""
    while cursor is not None:
        listed = page(cursor)
        for request, status, code in told(listed["calls"]):
            assert request not in seen and (status == 200) == (code is None)
            seen.add(request)
        cursor = listed["next_cursor"]
    # Refused calls beyond a rate are counted instead.
    metrics = requests.get(f"{gateway.url}/metrics", timeout=30).text
    dropped = [float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("postrider_route_log_dropped_total")]
    assert len(seen) + sum(dropped) >= shop.asked, "each has a line of its own"
    assert len(seen) > shop.asked / 2
