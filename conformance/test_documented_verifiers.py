"""The verifiers of docs/verifying-signatures.md accept what Postrider sends and nothing else.

Every listing marked `run-…` is taken from the page as it stands and run over real deliveries, with one byte changed in
each, and during a rotation. Node and Python are always there; the other languages are tried where they are installed.
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import pytest
from conftest import HERE, Delivery, one_byte_changes

PAGE = HERE.parent / "docs" / "verifying-signatures.md"
DATA = {"lead_id": "lead_4c88e100", "name": "Zoë 🐎", "budget": 450000}

# What each language needs around a listing: read cases, say true or false for each. {listing} is the listing.
HARNESSES = {
    "js": """{listing}
import {{ readFileSync }} from 'node:fs';
const verifiers = {{ standard, timed, bare }};
const cases = JSON.parse(readFileSync(0, 'utf8'));
console.log(JSON.stringify(cases.map((it) => verifiers[it.verifier](it.secret, it.given, Buffer.from(it.body, 'base64')))));
""",
    "python": """{listing}
import json, sys
verifiers = {{"standard": standard, "timed": timed, "bare": bare}}
cases = json.load(sys.stdin)
print(json.dumps([verifiers[it["verifier"]](it["secret"], it["given"], base64.b64decode(it["body"])) for it in cases]))
""",
    "ruby": """{listing}
require 'json'
cases = JSON.parse($stdin.read)
puts JSON.generate(cases.map {{ |it| send(it['verifier'], it['secret'], it['given'], it['body'].unpack1('m0')) }})
""",
    "php": """{listing}
$cases = json_decode(stream_get_contents(STDIN), true);
echo json_encode(array_map(fn ($it) => $it['verifier']($it['secret'], $it['given'], base64_decode($it['body'])), $cases));
""",
    "go": """package main
import ("encoding/json"; "net/http"; "os")
func main() {{
	var cases []struct{{ Verifier, Secret string; Given json.RawMessage; Body []byte }}
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {{ panic(err) }}
	verdicts := []bool{{}}
	for _, it := range cases {{
		var text string; var fields map[string]string; headers := http.Header{{}}
		if json.Unmarshal(it.Given, &text) != nil {{ json.Unmarshal(it.Given, &fields) }}
		for name, value := range fields {{ headers.Set(name, value) }}
		switch it.Verifier {{
		case "standard": verdicts = append(verdicts, Standard(it.Secret, headers, it.Body))
		case "timed": verdicts = append(verdicts, Timed(it.Secret, text, it.Body))
		case "bare": verdicts = append(verdicts, Bare(it.Secret, text, it.Body))
		}}
	}}
	json.NewEncoder(os.Stdout).Encode(verdicts)
}}
""",
}
COMMANDS = {
    "js": (["node", "verify.mjs"], "verify.mjs"),
    "python": ([sys.executable, "verify.py"], "verify.py"),
    "ruby": (["ruby", "verify.rb"], "verify.rb"),
    "php": (["php", "verify.php"], "verify.php"),
    "go": (["go", "run", "main.go", "webhook.go"], "main.go"),
}
ALWAYS_THERE = ["js", "python"]

# Dialect: which function verifies it, and the header it is given (None: all of them).
VERIFIERS = {
    "standard": ("standard", None),
    "athenatext": ("timed", "athena-signature"),
    "scaikey": ("timed", "x-scaikey-signature"),
    "alumia": ("timed", "x-alumia-signature"),
    "athenty": ("bare", "x-athenty-signature"),
}


def listing(language, name):
    found = re.findall(rf"^```{language} run-{name}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{len(found)} listings ```{language} run-{name} in {PAGE.name}"
    return found[0]


class Documented:
    """One language's listing, ready to run."""

    def __init__(self, language, place):
        self.command, file = COMMANDS[language]
        self.place = pathlib.Path(place)
        code = listing(language, "verify")
        if language == "go":
            (self.place / "webhook.go").write_text(code.replace("package webhook", "package main", 1))
        (self.place / file).write_text(HARNESSES[language].format(listing=code))

    def verdicts(self, dialect, secret, deliveries, header=None):
        verifier, usual = VERIFIERS[dialect]
        header = header or usual
        given = lambda it: it.headers[header] if header else it.headers
        encode = lambda it: base64.b64encode(it.body).decode()
        cases = [
            {"verifier": verifier, "secret": secret, "given": given(it), "body": encode(it)} for it in deliveries
        ]
        environment = {**os.environ, "GO111MODULE": "off"}
        ran = subprocess.run(
            self.command, cwd=self.place, env=environment, input=json.dumps(cases), capture_output=True, text=True,
            timeout=300,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def accepts(self, dialect, secret, delivery, header=None):
        return self.verdicts(dialect, secret, [delivery], header)[0]


@pytest.fixture(scope="module", params=list(COMMANDS))
def documented(request, tmp_path_factory):
    program = COMMANDS[request.param][0][0]
    if not shutil.which(program):
        assert request.param not in ALWAYS_THERE, f"{program} is needed"
        pytest.skip(f"{program} is not installed here")
    return Documented(request.param, tmp_path_factory.mktemp(request.param))


def deliver(endpoint, dialect):
    hook = endpoint(dialect)
    # An alumia body is the event's data alone, which publish() marks inside; so it is found by its path.
    if dialect != "alumia":
        return hook, hook.publish(DATA)
    hook.server.call("POST", "/v1/events", {"tenant_id": hook.tenant, "type": hook.type, "data": DATA})
    return hook, hook.receiver.wait(hook.path)


def forgeries(dialect, delivery):
    """The delivery with one byte changed in its body, then in every character of what is signed beside it."""
    yield from one_byte_changes(delivery)
    _, header = VERIFIERS[dialect]
    names = [header] if header else ["webhook-id", "webhook-timestamp", "webhook-signature"]
    for name in names:
        value = delivery.headers[name]
        for at, character in enumerate(value):
            for other in "0Ax":
                if character != other:
                    yield delivery.with_header(name, value[:at] + other + value[at + 1 :])
        yield delivery.with_header(name, "")


@pytest.mark.parametrize("dialect", list(VERIFIERS))
def test_a_delivery_is_accepted_and_any_change_of_one_byte_is_not(documented, endpoint, dialect):
    hook, delivery = deliver(endpoint, dialect)
    forged = list(forgeries(dialect, delivery))
    verdicts = documented.verdicts(dialect, hook.secret, [delivery, *forged])
    assert verdicts[0] is True
    assert [it for it, verdict in zip(forged, verdicts[1:]) if verdict is not False] == []
    stranger = endpoint(dialect)
    assert documented.accepts(dialect, stranger.secret, delivery) is False


@pytest.mark.parametrize("dialect", ["standard", "scaikey", "athenatext", "athenty"])
def test_during_a_rotation_both_secrets_verify_as_the_page_says(documented, endpoint, dialect):
    hook = endpoint(dialect)
    old, new = hook.secret, hook.rotate()
    during = hook.publish(DATA)
    _, header = VERIFIERS[dialect]
    in_next = f"{header}-next" if dialect in ("athenatext", "athenty") else None
    assert documented.accepts(dialect, old, during) is True
    assert documented.accepts(dialect, new, during, in_next) is True


def test_an_old_request_is_refused(documented, endpoint):
    """With its own, right signature: only the time is wrong."""
    hook = endpoint("alumia")
    for age, expected in [(290, True), (-290, True), (310, False), (-310, False)]:
        at = int(time.time()) - age
        mac = hmac.new(hook.secret.encode(), f"{at}.{{}}".encode(), hashlib.sha256).hexdigest()
        delivery = Delivery("/", {"x-alumia-signature": f"t={at},v1={mac}"}, b"{}")
        assert documented.accepts("alumia", hook.secret, delivery) is expected, age


@pytest.mark.parametrize("language", ["js", "python"])
def test_the_official_librarys_listing_does_what_it_says(language, endpoint, tmp_path):
    hook = endpoint("standard")
    delivery = hook.publish(DATA)
    code = listing(language, "library")
    cases = [[delivery.headers, base64.b64encode(it.body).decode()] for it in (delivery, delivery.with_body(b"{}"))]
    if language == "js":
        # Found from where the packages are.
        file = tmp_path / "library.mjs"
        (tmp_path / "node_modules").symlink_to(os.environ["POSTRIDER_NODE_MODULES"])
        file.write_text(
            code + "import { readFileSync } from 'node:fs';\n"
            "const [secret, cases] = JSON.parse(readFileSync(0, 'utf8'));\n"
            "console.log(JSON.stringify(cases.map(([headers, body]) => {\n"
            "  try { return verify(secret, headers, Buffer.from(body, 'base64')).data.given; } catch { return null; }\n"
            "})));\n"
        )
        command = ["node", str(file)]
    else:
        file = tmp_path / "library.py"
        file.write_text(
            code + "import base64, json, sys\n"
            "def given(headers, body):\n"
            "    try:\n        return verify(secret, headers, base64.b64decode(body))['data']['given']\n"
            "    except Exception:\n        return None\n"
            "secret, cases = json.load(sys.stdin)\n"
            "print(json.dumps([given(*case) for case in cases]))\n"
        )
        command = [sys.executable, str(file)]
    ran = subprocess.run(command, input=json.dumps([hook.secret, cases]), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [DATA, None]


def test_the_public_key_listing_verifies_ed25519(server, receiver, tenant, tmp_path):
    """The seed and public key are those of RFC 8032, section 7.1, test 1."""
    encode = lambda text: base64.b64encode(bytes.fromhex(text)).decode()
    seed = encode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = encode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    kind, path = "conformance.ed25519", "/ed25519"
    hook = {"tenant_id": tenant, "url": receiver.url(path), "events": [kind], "secret": f"whsk_{seed}"}
    server.call("POST", "/v1/webhooks", hook)
    server.call("POST", "/v1/events", {"tenant_id": tenant, "type": kind, "data": DATA})
    delivery = receiver.wait(path)
    file = tmp_path / "ed25519.mjs"
    file.write_text(
        listing("js", "ed25519") + "import { readFileSync } from 'node:fs';\n"
        "const [key, cases] = JSON.parse(readFileSync(0, 'utf8'));\n"
        "console.log(JSON.stringify(cases.map(([headers, body]) =>\n"
        "  standardWithPublicKey(key, headers, Buffer.from(body, 'base64')))));\n"
    )
    given = [delivery, delivery.with_body(delivery.body + b" "), delivery.with_header("webhook-id", "evt_0")]
    cases = [[it.headers, base64.b64encode(it.body).decode()] for it in given]
    command, text = ["node", str(file)], json.dumps([f"whpk_{public}", cases])
    ran = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [True, False, False]
