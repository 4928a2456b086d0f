"""The vendors' own libraries still accept the vectors that core's tests are made of, and refuse them after a change."""

import json
import os
import pathlib
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).parent / "inbound"


def test_the_vendors_libraries_verify_the_vectors():
    # Node looks for modules beside the script.
    place = pathlib.Path(os.environ["POSTRIDER_INBOUND_MODULES"]).parent
    for name in ["vectors.mjs", "vectors.json"]:
        shutil.copy(HERE / name, place / name)
    command = ["node", "vectors.mjs", "check"]
    ran = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    vectors = json.loads((HERE / "vectors.json").read_text())["vectors"]
    verified = [vector for vector in vectors if "checked_by" in vector]
    assert len(verified) > 30
    said = re.search(r"(\d+) vectors, (\d+) of them verified", ran.stdout)
    assert said and said.groups() == (str(len(vectors)), str(len(verified)))
