"""Locks the dependencies: what `make lock` calls.

Packages come from the index that pip is configured for, on whatever machine installs them, so the
lock file names none. Pipenv's hash of the Pipfile covers the indexes of the machine that locks;
here it is that of a machine where pip is not configured, so that `pipenv verify` agrees elsewhere.
"""

import json
import subprocess
import sys
from pathlib import Path

from pipenv.vendor import plette

LOCK = Path(__file__).resolve().parent.parent / "Pipfile.lock"


def main():
    subprocess.run([sys.executable, "-m", "pipenv", "lock"], cwd=LOCK.parent, check=True)
    lock = json.loads(LOCK.read_text())
    lock["_meta"]["sources"] = []
    with open(LOCK.with_name("Pipfile")) as pipfile:
        lock["_meta"]["hash"]["sha256"] = plette.Pipfile.load(pipfile).get_hash().value
    for section in lock.keys() - {"_meta"}:
        for package in lock[section].values():
            package.pop("index", None)
    LOCK.write_text(json.dumps(lock, indent=4) + "\n")


if __name__ == "__main__":
    main()
