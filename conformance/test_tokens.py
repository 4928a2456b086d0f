"""Others' JWT libraries verify our tokens, and we verify theirs: PyJWT over OpenSSL's cryptography."""

import base64
import datetime
import hashlib
import hmac
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import threading
import time

import jwt
import pytest
import requests
from conftest import Server
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

DOCUMENT = pathlib.Path(__file__).parent.parent / "docs" / "tokens.md"
ISSUER = "https://id.example"
AUDIENCE = "hooks"

KEYS = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "PS384": rsa.generate_private_key(public_exponent=65537, key_size=3072),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def key_set():
    """The public halves as PyJWT writes them, each under the name of its algorithm."""
    algorithms = jwt.algorithms.get_default_algorithms()
    written = {name: algorithms[name].to_jwk(key.public_key(), as_dict=True) for name, key in KEYS.items()}
    return {"keys": [{**jwk, "kid": name, "alg": name, "use": "sig"} for name, jwk in written.items()]}


def claims(**more):
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 300, "role": "super_admin", **more}


def signed(algorithm, **more):
    return jwt.encode(claims(**more), KEYS[algorithm], algorithm=algorithm, headers={"kid": algorithm})


def status(server, token, path="/v1/tenants"):
    return requests.get(server.url + path, headers={"authorization": f"Bearer {token}"}, timeout=30).status_code


class KeyServer:
    """An issuer's key set over HTTP."""

    def __init__(self):
        self.visits = 0
        keys, place = json.dumps(key_set()).encode(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                place.visits += 1
                self.send_response(200)
                self.send_header("content-length", str(len(keys)))
                self.end_headers()
                self.wfile.write(keys)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"


@pytest.fixture(scope="module", params=["url", "file"])
def trusting(request, tmp_path_factory):
    """A server that trusts the issuer, whose keys are at a URL or in a file."""
    keys = KeyServer()
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    path.write_text(json.dumps(key_set()))
    place = {"jwks_url": keys.url} if request.param == "url" else {"jwks_file": str(path)}
    issuers = json.dumps([{"issuer": ISSUER, "audience": AUDIENCE, **place}])
    server = Server(POSTRIDER_JWT_ISSUERS=issuers)
    yield server
    server.stop()
    assert keys.visits == (1 if request.param == "url" else 0)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_token_of_another_library_is_believed(trusting, algorithm):
    assert status(trusting, signed(algorithm)) == 200


def test_and_refused_when_it_lies(trusting):
    public = KEYS["RS256"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    part = lambda value: base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
    header = part({"alg": "HS256", "typ": "JWT", "kid": "RS256"})
    confused = f"{header}.{part(claims())}"
    # PyJWT itself declines to make this one.
    mac = hmac.new(pem, confused.encode(), hashlib.sha256).digest()
    confused += "." + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
    past = int(time.time()) - 3600
    other = ec.generate_private_key(ec.SECP256R1())
    lies = [
        jwt.encode(claims(), None, algorithm="none"),
        confused,
        signed("RS256", aud="others"),
        signed("RS256", iss="https://evil.example"),
        signed("RS256", exp=past),
        signed("RS256", nbf=past + 7200),
        jwt.encode(claims(), other, algorithm="ES256", headers={"kid": "ES256"}),
        jwt.encode(claims(), other, algorithm="ES256", headers={"kid": "other"}),
        jwt.encode(claims(), KEYS["RS256"], algorithm="RS384", headers={"kid": "RS256"}),
        jwt.encode(claims(), KEYS["RS256"], algorithm="RS256", headers={"kid": "PS384"}),
    ]
    for lie in lies:
        assert status(trusting, lie) == 401, jwt.get_unverified_header(lie)


def own_token(server, scope=None):
    form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
    reply = requests.post(f"{server.url}/oauth/token", data=form, auth=("admin", server.admin_key), timeout=30)
    assert reply.ok, reply.text
    return reply.json()


def test_our_own_token_is_verified_by_discovery(server):
    told = own_token(server, "admin:read")
    found = requests.get(f"{server.url}/.well-known/openid-configuration", timeout=30).json()
    assert found["issuer"] == server.url
    key = jwt.PyJWKClient(found["jwks_uri"]).get_signing_key_from_jwt(told["access_token"])
    algorithms = found["id_token_signing_alg_values_supported"]
    options = {"require": ["iss", "aud", "sub", "iat", "exp", "jti"]}
    read = jwt.decode(
        told["access_token"], key, algorithms=algorithms, audience="postrider", issuer=found["issuer"], options=options
    )
    assert (read["sub"], read["platform_token"], read["scope"]) == ("admin", True, "admin:read")
    life = datetime.timedelta(seconds=read["exp"] - read["iat"])
    assert life == datetime.timedelta(seconds=told["expires_in"]) == datetime.timedelta(hours=1)
    assert status(server, told["access_token"]) == 200


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is needed")
def test_the_documented_example_works(server, tenant):
    wanted = {"tenant_id": tenant, "name": "tokens", "role": "admin"}
    key = server.call("POST", "/v1/api-keys", wanted)
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    example = next(block for block in blocks if "/oauth/token" in block)
    example = example.replace("http://127.0.0.1:8080", server.url)
    example = re.sub(r"key_[0-9a-f]{32}", key["id"], example)
    known = {"POSTRIDER_API_KEY": key["key"], "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(["bash", "-euc", example], env=known, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["token_type"], told["scope"]) == ("Bearer", "admin:read")
    assert status(server, told["access_token"], "/v1/webhooks") == 200
