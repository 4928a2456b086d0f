"""The README's example of receiving works as printed."""

import pathlib
import re
import shutil
import subprocess

import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"


@pytest.mark.skipif(not all(map(shutil.which, ["curl", "jq", "openssl"])), reason="curl, jq and openssl are needed")
def test_the_example_of_receiving_works_as_printed(server, tenant):
    section = README.read_text().split("### Receive webhooks", 1)[1]
    example = re.search(r"```sh\n(.*?)```", section, re.DOTALL).group(1)
    # The target of the printed example is out there.
    example = example.replace("https://example.com/hook", f"{server.url}/healthz")
    known = {"KEY": server.admin_key, "URL": server.url, "tenant": tenant, "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(["bash", "-euc", example], env=known, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert '"status":"accepted"' in ran.stdout, ran.stdout
    assert '"type": "issues.opened"' in ran.stdout and '"verdict": "verified"' in ran.stdout, ran.stdout
