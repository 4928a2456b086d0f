"""What the checks are made with: the built server, a receiver that keeps raw bytes, and the verifiers for Node."""

import base64
import dataclasses
import http.server
import json
import os
import pathlib
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import requests

HERE = pathlib.Path(__file__).parent
SOON = 30.0


def until(what, check, within=SOON):
    """Checks until there is an answer; fails when there is none in time."""
    deadline = time.monotonic() + within
    waiting = threading.Event()
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        waiting.wait(0.02)


@dataclasses.dataclass(frozen=True)
class Delivery:
    """One request as it came over the wire."""

    path: str
    headers: dict[str, str]
    body: bytes

    def with_body(self, body):
        return dataclasses.replace(self, body=body)

    def with_header(self, name, value):
        return dataclasses.replace(self, headers={**self.headers, name: value})


class Receiver:
    """Answers 200 to everything and keeps what came in."""

    def __init__(self):
        self.deliveries = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.deliveries.append(Delivery(self.path, headers, body))
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

    def wait(self, path, wanted=lambda delivery: True):
        """The first delivery on `path` that is wanted."""
        matches = lambda: [it for it in list(self.deliveries) if it.path == path and wanted(it)]
        return until(f"a delivery on {path}", matches)[0]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """The built binary on an empty data directory."""

    def __init__(self, **environment):
        self.home = tempfile.TemporaryDirectory(prefix="postrider-conformance-")
        self.admin_key = f"admin-{secrets.token_hex(16)}"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {
            "PATH": os.environ["PATH"],
            "POSTRIDER_LISTEN": f"127.0.0.1:{self.port}",
            "POSTRIDER_DATA": os.path.join(self.home.name, "data"),
            "POSTRIDER_ADMIN_KEY": self.admin_key,
            "POSTRIDER_EGRESS_ALLOW": "127.0.0.0/8",
            **environment,
        }
        self.log = open(os.path.join(self.home.name, "log"), "w+")
        self.start()

    def start(self):
        command = [os.environ["POSTRIDER_BINARY"], "serve"]
        self.process = subprocess.Popen(command, env=self.settings, stdout=self.log, stderr=self.log)
        until("the server is ready", self.ready)

    def kill(self):
        """As a crash: nothing is written out, nobody is told."""
        self.process.kill()
        self.process.wait()

    def ready(self):
        assert self.process.poll() is None, self.said()
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def call(self, method, path, body=None, key=None):
        headers = {"authorization": f"Bearer {key or self.admin_key}"}
        reply = requests.request(method, self.url + path, json=body, headers=headers, timeout=30)
        assert reply.ok, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply.json() if reply.content else None

    def stop(self):
        self.process.terminate()
        try:
            assert self.process.wait(timeout=40) == 0, self.said()
        finally:
            self.process.kill()
            self.log.close()
            self.home.cleanup()


@pytest.fixture(scope="session")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def fresh_server():
    """For checks that leave a mess."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def receiver():
    return Receiver()


@pytest.fixture(scope="session")
def tenant(server):
    return server.call("POST", "/v1/tenants", {"name": "Conformance"})["id"]


class Endpoint:
    """A webhook of one dialect with its receiver."""

    numbers = iter(range(1, 1_000_000))

    def __init__(self, server, receiver, tenant, dialect):
        self.server, self.receiver, self.tenant = server, receiver, tenant
        self.number = next(Endpoint.numbers)
        self.path, self.type = f"/{dialect}/{self.number}", f"conformance.n{self.number}"
        body = {"tenant_id": tenant, "url": receiver.url(self.path), "events": [self.type], "dialect": dialect}
        made = server.call("POST", "/v1/webhooks", body)
        self.id, self.secret = made["id"], made["secret"]

    def publish(self, data):
        """Publishes an event and gives the delivery of it, raw."""
        marked = {"marker": next(Endpoint.numbers), "given": data}
        self.server.call("POST", "/v1/events", {"tenant_id": self.tenant, "type": self.type, "data": marked})
        mark = lambda delivery: (json.loads(delivery.body).get("data") or {}).get("marker") == marked["marker"]
        return self.receiver.wait(self.path, mark)

    def rotate(self):
        """Rotates the secret; the new one."""
        return self.server.call("POST", f"/v1/webhooks/{self.id}/rotate-secret", {})["secret"]

    def finish_rotation(self):
        self.server.call("POST", f"/v1/webhooks/{self.id}/finish-rotation", {})


@pytest.fixture
def endpoint(server, receiver, tenant):
    return lambda dialect: Endpoint(server, receiver, tenant, dialect)


class Node:
    """Runs verifiers under Node; see verify.mjs."""

    def rejections(self, verifier, secret, deliveries):
        """For each delivery, None if the verifier accepts it, else why it does not."""
        encode = lambda it: base64.b64encode(it.body).decode()
        cases = [
            {"verifier": verifier, "secret": secret, "headers": it.headers, "body": encode(it)} for it in deliveries
        ]
        command = ["node", str(HERE / "verify.mjs")]
        ran = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def rejection(self, verifier, secret, delivery):
        return self.rejections(verifier, secret, [delivery])[0]


@pytest.fixture(scope="session")
def node():
    return Node()


def one_byte_changes(delivery):
    """The delivery with each byte of its body changed in turn, cut short, and made longer."""
    for at in range(len(delivery.body)):
        changed = bytearray(delivery.body)
        changed[at] ^= 1
        yield delivery.with_body(bytes(changed))
    yield delivery.with_body(delivery.body[:-1])
    yield delivery.with_body(delivery.body + b" ")


def program(name):
    """A command of the environment that we run in."""
    return str(pathlib.Path(sys.executable).parent / name)
