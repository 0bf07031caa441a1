"""Pipfile, its lock, and the commands that the guides type with `pipenv run`."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest

from tests.services import BIN, ROOT

PIPFILE = tomllib.loads((ROOT / "Pipfile").read_text())
LOCK = json.loads((ROOT / "Pipfile.lock").read_text())
PACKAGES = [pin for name, part in LOCK.items() if name != "_meta" for pin in part.values()]


def test_the_lock_file_names_no_index():
    """Packages come from whatever index pip is configured for."""
    assert "source" not in PIPFILE
    assert LOCK["_meta"]["sources"] == []
    assert not [package for package in PACKAGES if "index" in package]


def test_the_lock_file_belongs_to_the_pipfile():
    """`make lock` was run after the last change. Pip's configuration would change the hash."""
    if not (BIN / "pipenv").exists():
        pytest.skip("pipenv is not installed: pip install pipenv")
    command = [sys.executable, "-m", "pipenv", "verify"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env["PIP_CONFIG_FILE"] = os.devnull
    result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_each_package_is_pinned_with_hashes():
    for package in PACKAGES:
        assert package["version"].startswith("==")
        assert package["hashes"]


@pytest.mark.parametrize("name", sorted(PIPFILE["scripts"]))
def test_each_pipenv_script_starts_a_program_that_is_there(name):
    program = shlex.split(PIPFILE["scripts"][name])[0]
    assert shutil.which(program, path=str(BIN)), program
