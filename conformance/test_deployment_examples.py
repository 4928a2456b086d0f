"""The examples of `deploy/` parse, and set nothing that Postrider does not know."""

import os
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "deploy").glob("*.yaml"))


@pytest.fixture(scope="module")
def known():
    sample = subprocess.run([os.environ["POSTRIDER_BINARY"], "config", "sample"], check=True, capture_output=True, text=True).stdout
    return {f"POSTRIDER_{name.upper()}" for name in re.findall(r"^#? ?([a-z_]+) =", sample, re.MULTILINE)}


def environments(node):
    """Every mapping or list of variables that a container gets."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "environment":
                yield from value
            elif key == "env":
                yield from (entry["name"] for entry in value)
            else:
                yield from environments(value)
    elif isinstance(node, list):
        for entry in node:
            yield from environments(entry)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_sets_only_what_exists(path, known):
    documents = list(yaml.safe_load_all(path.read_text()))
    ours = {name for name in environments(documents) if name.startswith("POSTRIDER_")}
    assert {"POSTRIDER_STORE", "POSTRIDER_MASTER_KEY", "POSTRIDER_ADMIN_KEY"} <= ours, "nodes share these"
    assert ours <= known, f"unknown: {ours - known}"
