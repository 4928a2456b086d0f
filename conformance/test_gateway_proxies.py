"""The examples of docs/tenant-hostnames.md run as they are printed: what comes through a proxy reaches the tenant whose host
was asked for, whatever else the request says, and nothing but `/gateway` and `/public` is reached at all.

Replaced in them are only the places: ports, addresses to listen at, files of certificates, and, for Caddy, who issues them.
"""

import datetime
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile

import pytest
from conftest import HERE, free_port, until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gateway import ADMIN, KEY, Gateway, Sqlite

PAGE = HERE.parent / "docs" / "tenant-hostnames.md"
DOMAIN, CALLER = "gw.example.com", "127.0.0.7"
NOBODY = (400, "missing_client_header")


def example(language):
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{len(found)} examples of {language}"
    return found[0]


def replaced(text, places):
    for printed, (times, ours) in places.items():
        assert text.count(printed) == times, f"{printed!r} is printed {text.count(printed)} times"
        text = text.replace(printed, ours)
    return text


class Proxy:
    """A proxy in front of a gateway, on a port of its own."""

    def __init__(self, gateway):
        self.gateway, self.port = gateway, free_port()
        self.home = tempfile.TemporaryDirectory(prefix="postrider-proxy-")
        self.place = pathlib.Path(self.home.name)
        self.log = open(self.place / "log", "w+")

    def run(self, *command):
        environment = {"PATH": os.environ["PATH"], "HOME": self.home.name, "XDG_DATA_HOME": f"{self.home.name}/data"}
        self.process = subprocess.Popen(
            command, cwd=self.place, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        until(f"{self.name} listens", self.listens)

    def listens(self):
        assert self.process.poll() is None, self.said()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def connection(self, sni):
        context = ssl.create_default_context(cafile=self.authority())
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=30, source_address=(CALLER, 0))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.sock = context.wrap_socket(raw, server_hostname=sni)
        except BaseException:
            raw.close()
            raise
        return connection

    def send(self, host, more=(), path="/gateway/fetch", method="POST", body=None, sni=f"acme.{DOMAIN}"):
        connection = self.connection(sni)
        try:
            body = json.dumps({"table_name": "whose"}).encode() if body is None else body
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            fields = [("Host", host), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            for name, value in [*fields, (KEY, self.key), *more]:
                connection.putheader(name, value)
            connection.endheaders()
            try:
                connection.send(body)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                pass  # Refused before it was read; the answer is there.
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def whose(self, host, more=(), **rest):
        status, body = self.send(host, more, **rest)
        if status == 200:
            return json.loads(body)["data"][0]["name"]
        return status, json.loads(body)["code"]

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.log.close()
            self.home.cleanup()


def certificates(place):
    """A wildcard certificate of an authority of our own, as a DNS challenge would get it."""
    now = datetime.datetime.now(datetime.timezone.utc)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", "leaf")}
    names = {name: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in keys}

    def certificate(name, extensions):
        builder = x509.CertificateBuilder().subject_name(names[name]).issuer_name(names["authority"])
        builder = builder.public_key(keys[name].public_key()).serial_number(x509.random_serial_number())
        day = datetime.timedelta(days=1)
        builder = builder.not_valid_before(now - day).not_valid_after(now + day)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(keys["authority"], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    subject = x509.SubjectKeyIdentifier.from_public_key(keys["authority"].public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)
    usage = dict.fromkeys(
        ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "crl_sign", "encipher_only", "decipher_only"], False,
    )
    signs = x509.KeyUsage(key_cert_sign=True, **usage)
    authority = [(x509.BasicConstraints(ca=True, path_length=0), True), (subject, False), (signs, True)]
    (place / "authority.pem").write_bytes(certificate("authority", authority))
    leaf = [(x509.SubjectAlternativeName([x509.DNSName(f"*.{DOMAIN}")]), False), (issuer, False)]
    (place / "fullchain.pem").write_bytes(certificate("leaf", leaf))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (place / "privkey.pem").write_bytes(keys["leaf"].private_bytes(serialization.Encoding.PEM, *form))


class Nginx(Proxy):
    name = "nginx"

    def __init__(self, gateway):
        super().__init__(gateway)
        certificates(self.place)
        block = replaced(example("nginx"), {
            "listen 443 ssl;": (1, f"listen 127.0.0.1:{self.port} ssl;"),
            "/etc/ssl/gw.example.com/": (2, f"{self.place}/"),
            "http://127.0.0.1:8080": (1, gateway.url),
        })
        temporary = "".join(
            f"{name}_temp_path {self.place}/{name};\n" for name in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        )
        user = "user root;" if os.geteuid() == 0 else ""
        main = f"{user} daemon off; worker_processes 1; pid {self.place}/pid; error_log stderr; events {{}}"
        text = f"{main}\nhttp {{\naccess_log off;\n{temporary}{block}}}\n"
        (self.place / "nginx.conf").write_text(text)
        self.run(os.environ["POSTRIDER_NGINX"], "-p", str(self.place), "-e", "stderr", "-c", "nginx.conf")

    def authority(self):
        return self.place / "authority.pem"


class Caddy(Proxy):
    name = "caddy"

    def __init__(self, gateway):
        super().__init__(gateway)
        ours = f"""local_certs
	skip_install_trust
	admin off
	default_bind 127.0.0.1
	http_port {free_port()}
	https_port {self.port}
	auto_https disable_redirects
	storage file_system {self.place}/storage"""
        text = replaced(example("caddyfile"), {
            "email ops@example.com": (1, ours), "127.0.0.1:8080": (2, f"127.0.0.1:{gateway.port}"),
        })
        (self.place / "Caddyfile").write_text(text)
        self.run(os.environ["POSTRIDER_CADDY"], "run", "--config", "Caddyfile", "--adapter", "caddyfile")

    def authority(self):
        file = self.place / "storage" / "pki" / "authorities" / "local" / "root.crt"
        until("the local authority is made", file.is_file)
        return file


@pytest.fixture(scope="module", params=[Nginx, Caddy], ids=lambda proxy: proxy.name)
def proxy(request):
    # As the page says.
    gateway = Gateway(POSTRIDER_TRUSTED_PROXIES="127.0.0.1", POSTRIDER_TENANT_HOST_PATTERN=f"*.{DOMAIN}")
    for tenant, client in [("acme", "acme"), ("shop", "beta")]:
        database = Sqlite(gateway.files.name)
        database.run("create table whose (name text)")
        database.run(f"insert into whose values ('{client}')")
        gateway.client(client, database)
        gateway.admin("PUT", f"/admin/tenant-hostnames/{tenant}", {"client_name": client})
    proxy = request.param(gateway)
    proxy.key = gateway.admin("POST", "/admin/api-keys", {"name": "conformance", "rights": ["*"]})["api_key"]
    yield proxy
    proxy.stop()
    gateway.stop()


def test_a_request_reaches_the_tenant_whose_host_was_asked_for(proxy):
    for host, client in [("acme", "acme"), ("shop", "beta"), ("ACME", "acme")]:
        for name in (f"{host}.{DOMAIN}", f"{host}.{DOMAIN}:{proxy.port}"):
            assert proxy.whose(name, sni=f"{host}.{DOMAIN}") == client
    status, body = proxy.send(f"acme.{DOMAIN}", path="/public/shop/fetch")
    assert (status, json.loads(body)["data"]) == (200, [{"name": "beta"}])


SPOOFS = [
    [("X-Forwarded-Host", f"shop.{DOMAIN}")],
    [("x-forwarded-host", f"shop.{DOMAIN}"), ("X-Forwarded-Host", f"shop.{DOMAIN}")],
    [("X-Forwarded-Host", f"shop.{DOMAIN}, shop.{DOMAIN}")],
    [("Forwarded", f"host=shop.{DOMAIN}")],
    [("Forwarded", "for=127.0.0.1"), ("Forwarded", f"for=127.0.0.1;host=shop.{DOMAIN}")],
    [("Forwarded", f'host="shop.{DOMAIN}"'), ("X-Forwarded-Host", f"shop.{DOMAIN}"), ("X-Forwarded-For", "127.0.0.1")],
    [("Connection", "X-Forwarded-Host"), ("X-Forwarded-Host", f"shop.{DOMAIN}")],
    [("Connection", "Forwarded"), ("Forwarded", f"host=shop.{DOMAIN}")],
]


@pytest.mark.parametrize("spoof", SPOOFS)
def test_what_a_stranger_says_was_forwarded_reaches_nobody_else(proxy, spoof):
    assert proxy.whose(f"acme.{DOMAIN}", spoof) == "acme"
    # Nothing else of the request says who is asked: a look at what was forwarded would find the other tenant.
    told = proxy.send(f"nobody.{DOMAIN}", spoof)
    assert (told[0], json.loads(told[1])["code"]) == NOBODY


def test_the_address_in_the_log_is_the_callers_own(proxy):
    for spoof in ([], [("X-Forwarded-For", "203.0.113.9")], [("X-Forwarded-For", "203.0.113.9, 127.0.0.1")]):
        name = f"asked-{len(spoof)}-{len(str(spoof))}"
        proxy.send(f"acme.{DOMAIN}", [("X-Request-Id", name), *spoof], path="/public/acme/fetch")

        def logged():
            calls = proxy.gateway.admin("GET", "/admin/public-routes/acme/calls")["calls"]
            return [it for it in calls if it["request_id"] == name]

        assert until("the call is logged", logged)[0]["address"] == CALLER


WAYS_ASIDE = [
    "/", "/admin/clients", "/admin/tenant-hostnames/ask?domain=acme.gw.example.com", "/v1/tenants", "/metrics", "/readyz",
    "/gateway/../admin/clients", "/public/../admin/clients", "/public/x/../../admin/clients", "/gateway/%2e%2e/admin/clients",
    "/gateway/..%2fadmin/clients", "//admin/clients", "/gateway//../admin/clients", "/admin/clients/../../gateway/fetch",
    # Cleaned, these begin as they should; as they stand, they name something of the administration.
    "/admin/clients/..%2f..%2fgateway%2ffetch", "/admin/public-routes/..%2f..%2fgateway%2fx/exposure",
    "/admin/public-routes/..%2F..%2Fpublic%2Fx/calls", "/v1/webhooks/..%2f..%2fgateway%2fx",
    "/v1/events/%2e%2e%2f%2e%2e%2fgateway%2fx", "/admin/webhooks/x%2f..%2f..%2f..%2fgateway%2fx",
]


@pytest.mark.parametrize("path", WAYS_ASIDE)
def test_the_rest_of_the_server_is_not_reached(proxy, path):
    credentials = [(ADMIN, proxy.gateway.admin_key), ("Authorization", f"Bearer {proxy.gateway.admin_key}")]
    for method in ("GET", "POST", "PATCH"):
        status, body = proxy.send(f"acme.{DOMAIN}", credentials, path=path, method=method, body=b"{}")
        # Ours say who they are; the proxies' own refusals do not, nor does what is under none of our contracts.
        told = json.loads(body).get("code") if body.startswith(b"{") else None
        assert status in (400, 404, 405) and told in (None, "path_not_found", "method_not_allowed"), (method, status, body)


def test_a_body_that_is_too_large_is_refused_at_the_door(proxy):
    status, _ = proxy.send(f"acme.{DOMAIN}", body=b" " * (4 * 1024 * 1024 + 1))
    assert status == 413
    assert proxy.whose(f"acme.{DOMAIN}") == "acme"


def test_certificates_are_only_got_for_names_that_stand_for_somebody(proxy):
    if proxy.name != "caddy":
        # One wildcard certificate, for all names.
        assert proxy.whose(f"nobody.{DOMAIN}", sni=f"nobody.{DOMAIN}") == NOBODY
        return
    for name in (f"nobody.{DOMAIN}", f"a.acme.{DOMAIN}", DOMAIN, "evil.example"):
        with pytest.raises(ssl.SSLError):
            proxy.connection(name).close()
    # The name of a route that has gone to sleep before anybody has used it.
    proxy.gateway.admin("PUT", "/admin/tenant-hostnames/sleepy", {"client_name": "acme"})
    proxy.gateway.admin("PATCH", "/admin/public-routes/sleepy", {"is_active": False})
    with pytest.raises(ssl.SSLError):
        proxy.connection(f"sleepy.{DOMAIN}").close()
    proxy.gateway.admin("PATCH", "/admin/public-routes/sleepy", {"is_active": True})
    assert proxy.whose(f"sleepy.{DOMAIN}", sni=f"sleepy.{DOMAIN}") == "acme"
