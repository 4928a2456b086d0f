"""Providers' own libraries sign or check requests that the built server receives, verifies and records."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import subprocess

import pytest
import requests

HERE = pathlib.Path(__file__).parent / "inbound"
VECTORS = json.loads((HERE / "vectors.json").read_text())["vectors"]
# Their certificates would have to come from their own hosts.
CERTIFIED = {"paypal", "sns"}
# Made for one URL only.
ELSEWHERE = {"decoded URL"}
# Their signatures are good for seconds: each is made when its turn has come.
HASTY = {"paddle"}
# What these providers want to hear; all others get 202 and a receipt.
ANSWERS = {
    **dict.fromkeys(["linear", "docusign", "paystack"], 200),
    **dict.fromkeys(["slack", "zoom", "meta", "xero", "asana", "braintree", "okta", "adobesign"], 200),
    **dict.fromkeys(["twilio", "discord"], 204),
}


def wanted(provider):
    """The vectors of a provider that can be made for any URL and moment."""
    fit = lambda it: it["made_by"] != "published" and it.get("name") not in ELSEWHERE
    return [it for it in VECTORS if it["provider"] == provider and fit(it)]


PROVIDERS = [it for it in dict.fromkeys(it["provider"] for it in VECTORS) if it not in CERTIFIED and wanted(it)]


def has_library(vector):
    return vector["made_by"] not in ("recipe", "published") or "checked_by" in vector


class Receivers:
    """The receivers of one tenant, over the Alumia API."""

    def __init__(self, server):
        self.server = server
        tenant = server.call("POST", "/v1/tenants", {"name": "Inbound"})["id"]
        body = {"tenant_id": tenant, "name": "inbound", "role": "owner", "prefix": "alm"}
        self.key = server.call("POST", "/v1/api-keys", body)["key"]

    def call(self, method, path, body=None):
        answer = self.server.call(method, f"/api/v1/webhooks{path}", body, self.key)
        assert answer["success"] is True, answer
        return answer["data"]

    def make(self, source, secret, **more):
        body = {"name": f"From {source}", "source": source, "secret": secret, **more}
        return self.call("POST", "", body)

    def records(self, receiver):
        return self.call("GET", f"/{receiver['id']}/events")["items"]


@pytest.fixture(scope="module")
def receivers(server):
    return Receivers(server)


@pytest.fixture(scope="module")
def sign():
    """Has the vendors' libraries make the wanted vectors for their URLs, now."""
    place = pathlib.Path(os.environ["POSTRIDER_INBOUND_MODULES"]).parent
    shutil.copy(HERE / "vectors.mjs", place / "vectors.mjs")

    def sign(vectors):
        asked = json.dumps(vectors)
        command = ["node", "vectors.mjs", "live"]
        ran = subprocess.run(command, input=asked, cwd=place, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return sign


def post(url, body, headers):
    return requests.post(url, data=body.encode(), headers=headers, timeout=30)


def test_libraries_have_a_hand_in_most_providers():
    signs = {it["provider"] for it in VECTORS if it["made_by"] not in ("recipe", "published")}
    checks = {it["provider"] for it in VECTORS if "checked_by" in it}
    assert len(signs & set(PROVIDERS)) >= 12 and len((signs | checks) & set(PROVIDERS)) >= 17


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_a_provider_sends_is_verified_and_recorded_and_a_changed_byte_is_refused(receivers, sign, provider):
    vectors = wanted(provider)
    made = [receivers.make(provider, vector["secret"]) for vector in vectors]
    urls = [f"{receiver['receiveUrl']}?region=eu" for receiver in made]
    asked = [{"provider": provider, "name": it.get("name"), "url": url} for it, url in zip(vectors, urls)]
    batches = [[it] for it in asked] if provider in HASTY else [asked]
    signed = (vector for batch in batches for vector in sign(batch)["vectors"])
    for vector, receiver in zip(signed, made):
        label = f"{provider} {vector.get('name', '')}"
        is_signed = vector["verdict"] == "verified"
        if is_signed:
            # First, so that it also shows that a refused request does not make the genuine one a repeat.
            forged = post(vector["url"], vector["altered"], vector["headers"])
            assert forged.status_code == 401, f"{label}: {forged.status_code} {forged.text}"
            assert forged.json()["error"]["code"] == "UNAUTHORIZED"
        answer = post(vector["url"], vector["body"], vector["headers"])
        assert answer.status_code == ANSWERS.get(provider, 202), f"{label}: {answer.status_code} {answer.text}"
        if answer.status_code == 202:
            assert answer.json()["data"]["status"] == "accepted"
        records = receivers.records(receiver)
        assert [it["verdict"] for it in records] == [vector["verdict"]] + ["failed"] * is_signed, label
        assert records[0]["reason"] is None and records[0]["source"] == provider, label
        assert records[0]["type"] == vector["type"], label
        if is_signed:
            assert records[1]["reason"] in ("signature_mismatch", "body_modified_suspected"), label


def test_a_repeat_is_told_from_a_new_event(receivers, sign):
    receiver = receivers.make("stripe", "whsec_test_secret")
    asked = [{"provider": "stripe", "name": None, "url": receiver["receiveUrl"]}]
    vector = sign(asked)["vectors"][0]
    first, again = (post(vector["url"], vector["body"], vector["headers"]) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["data"]["status"] == "duplicate"


class TestHandshakes:
    """Each is answered at once, and nothing is recorded."""

    @pytest.fixture
    def asked(self, receivers):
        """Makes a receiver, asks it, and looks that nothing was recorded."""

        def asked(source, secret, ask, **more):
            receiver = receivers.make(source, secret, **more)
            answer = ask(receiver["receiveUrl"])
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert receivers.records(receiver) == []
            return answer

        return asked

    def test_slack(self, asked):
        body = {"token": "x", "type": "url_verification", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}
        answer = asked("slack", "8f742231b10e", lambda url: requests.post(url, json=body, timeout=30))
        assert (answer.status_code, answer.text) == (200, body["challenge"])

    def test_zoom(self, asked):
        body = {"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}}
        answer = asked("zoom", "a zoom secret token", lambda url: requests.post(url, json=body, timeout=30))
        mac = hmac.new(b"a zoom secret token", b"qgg8vlvZRS6UYooatFL8Aw", hashlib.sha256)
        assert answer.json() == {"plainToken": "qgg8vlvZRS6UYooatFL8Aw", "encryptedToken": mac.hexdigest()}

    def test_zoom_signs_nothing_but_a_token(self, asked):
        body = {"event": "endpoint.url_validation", "payload": {"plainToken": "v0:1767225600:{}"}}
        answer = asked("zoom", "a zoom secret token", lambda url: requests.post(url, json=body, timeout=30))
        assert answer.status_code == 400 and "encryptedToken" not in answer.text

    def test_meta(self, asked):
        query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "a-token-of-mine"}
        ask = lambda url: requests.get(url, params=query, timeout=30)
        answer = asked("meta", "0123456789abcdef", ask, verifyToken="a-token-of-mine")
        assert (answer.status_code, answer.text) == (200, "1158201444")
        assert asked("meta", "0123456789abcdef", ask, verifyToken="another").status_code == 403

    def test_dropbox(self, asked):
        answer = asked("dropbox", "an app secret", lambda url: requests.get(url, params={"challenge": "abc"}, timeout=30))
        assert (answer.status_code, answer.text) == (200, "abc")

    def test_x(self, asked):
        ask = lambda url: requests.get(url, params={"crc_token": "MDExNzA3"}, timeout=30)
        answer = asked("x", "an x consumer secret", ask)
        mac = hmac.new(b"an x consumer secret", b"MDExNzA3", hashlib.sha256).digest()
        assert answer.json() == {"response_token": f"sha256={base64.b64encode(mac).decode()}"}

    def test_microsoft_graph(self, asked):
        token = "Validation: Testing client application reachability"
        answer = asked("msgraph", "a client state", lambda url: requests.post(url, params={"validationToken": token}, timeout=30))
        assert (answer.status_code, answer.text) == (200, token)
        assert answer.headers["content-type"].startswith("text/plain")

    def test_discord(self, asked, sign):
        ping = sign([])["ping"]
        secret = next(it["secret"] for it in VECTORS if it["provider"] == "discord")
        answer = asked("discord", secret, lambda url: post(url, ping["body"], ping["headers"]))
        assert (answer.status_code, answer.json()) == (200, {"type": 1})
