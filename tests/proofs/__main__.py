"""make prove: take each line of configuration out in turn, and see its proof fail.

For each line: its proof passes in a copy of the project as it is, and fails in a copy without the
line, by an assertion and not because something cannot be imported. What is proven is remembered in
`var/proofs.json` until the line, its proof, what such tests share or the locked packages change.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import psutil

from tests.services import ROOT, copy_site

from .lines import all_lines
from .marks import all_proofs
from .settings_doc import write

# How a test says that an effect is not there. What else ends it (an import, a fixture, a worker
# that is not ready, a file that Compose cannot read, pytest's own timeout) would prove nothing.
ASSERTION = re.compile(
    r"assert\b|Failed: DID NOT RAISE|AssertionError(?!: docker compose|.*' ready\.')"
)
UNUSED = ("cacheprovider", "playwright", "anyio")  # plugins of pytest: each start costs time
lock = threading.Lock()
PROVEN = "proven"


class Scratch:
    """A copy of the project, with a folder for what its tests write. All of it goes at the end."""

    def __enter__(self):
        # A short name: sockets have short paths. Open to PostgreSQL, which is another user.
        self.folder = Path(tempfile.mkdtemp(prefix="prove-", dir="/tmp"))
        self.folder.chmod(0o711)
        self.copy = self.folder / "site"
        copy_site(self.copy)
        (self.folder / "tmp").mkdir(mode=0o711)
        return self

    def __exit__(self, *error):
        for process in psutil.process_iter():
            try:
                if Path(process.cwd()).is_relative_to(self.folder):
                    process.kill()
            except (psutil.Error, OSError):
                continue
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, proofs, *options):
        """Run proofs. Returns pytest's exit status, and by test what it failed by, or was skipped.

        What keeps pytest from running at all stands under the empty name.
        """
        report = self.folder / "report.xml"
        unused = [part for name in UNUSED for part in ("-p", f"no:{name}")]
        command = [sys.executable, "-m", "pytest", "-q", *unused, *options]
        command += ["--junitxml", report, *sorted({proof.node for proof in proofs})]
        env = {**os.environ, "TMPDIR": str(self.folder / "tmp"), "COMPOSE_TESTS": "all"}
        done = subprocess.run(command, cwd=self.copy, env=env, capture_output=True, text=True)
        if not report.exists():
            return done.returncode, {"": (done.stdout + done.stderr)[-2000:]}
        messages = {}
        for case in ElementTree.parse(report).iter("testcase"):
            file = case.get("classname").replace(".", "/") + ".py"
            for found in case:
                if found.tag in ("failure", "error", "skipped"):
                    node = f"{file}::{case.get('name').split('[')[0]}"
                    messages.setdefault(node, found.get("message", ""))
        return done.returncode, messages


def pass_with_all_lines(proofs, jobs):
    """Run proofs in a project as it is. Returns by test what is wrong with it."""
    with Scratch() as scratch:
        _, messages = scratch.run(proofs, "-n", str(jobs))
    return messages


def verdict(line, proof):
    """Take a line out, and run a proof of it. Returns «proven», or why it is not."""
    with Scratch() as scratch:
        line.take_out(scratch.copy, proof.without)
        status, messages = scratch.run([proof], "-n", "0", "-x")
    said = messages.get(proof.node) or messages.get("", "")
    if status == 0:
        return f"{proof.node} passes without it. {first_line(said)}"
    if (proof.fails and proof.fails in said) or ASSERTION.match(said):
        return PROVEN
    return f"{proof.node} fails for another reason: {first_line(said)}"


def first_line(message):
    return message.strip().split("\n")[0][:300]


def key_of(line, proof):
    """What a verdict holds for: the line, its proof with all helpers, and the locked packages."""
    parts = [line.name, line.source(), proof.test, str(proof.without), str(proof.fails)]
    files = [ROOT / proof.file, *helpers(Path(proof.file).parent), ROOT / "Pipfile.lock"]
    parts += [file.read_text() for file in files]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def helpers(folder):
    """What the tests of a folder share: fixtures, servers, settings, tasks."""
    files = sorted({*(ROOT / "tests").glob("*.py"), *(ROOT / folder).glob("*.py")})
    return [file for file in files if not file.name.startswith("test_")]


def main():
    parser = argparse.ArgumentParser(prog="make prove", description=__doc__)
    parser.add_argument("--only", default="", help="names, with * for any text, and commas")
    parser.add_argument("--jobs", type=int, default=2, help="how many at the same time")
    parser.add_argument("--compose", action="store_true", help="lines of the Compose files")
    parser.add_argument("--again", action="store_true", help="also what is proven already")
    parser.add_argument("--tested", action="store_true", help="all have just passed as tests")
    options = parser.parse_args()

    proofs = {}
    for proof in all_proofs():
        proofs.setdefault(proof.line, []).append(proof)
    lines = [line for line in all_lines() if line.in_compose == options.compose]
    if options.only:
        wanted, names = options.only.split(","), [line.name for line in lines]
        for pattern in wanted:
            if not fnmatch.filter(names, pattern):
                parser.error(f"no line is named {pattern!r} (Compose files: see --compose)")
        lines = [li for li in lines if any(fnmatch.fnmatchcase(li.name, each) for each in wanted)]
    file = ROOT / "var" / f"proofs{'-compose' * options.compose}.json"
    state = json.loads(file.read_text()) if file.exists() else {}
    failed, done, wrong = {}, 0, {}
    mine = [(line, proof) for line in lines for proof in proofs.get(line.name, [])]
    if options.again:
        for line, proof in mine:
            state.pop(key_of(line, proof), None)
    to_run = [proof for line, proof in mine if key_of(line, proof) not in state]
    if to_run and not options.tested:
        print(f"Running {len(to_run)} proofs with all lines in place …", flush=True)
        wrong = pass_with_all_lines(to_run, options.jobs)

    def prove(line):
        nonlocal done
        begin, said = time.monotonic(), "no test is marked as its proof"
        for proof in proofs.get(line.name, []):
            key = key_of(line, proof)
            if problem := wrong.get(proof.node) or wrong.get(""):
                said = f"{proof.node} does not pass with it: {first_line(problem)}"
            else:
                said = state.get(key) or verdict(line, proof)
            if said != PROVEN:
                break
            with lock:
                state[key] = said
                file.write_text(json.dumps(state, indent=0))
        with lock:
            done += 1
            if said != PROVEN:
                failed[line.name] = said
            seconds = time.monotonic() - begin
            print(f"[{done}/{len(lines)}] {line.name}: {said} ({seconds:.1f} s)", flush=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(prove, lines))
    write()
    for name, said in failed.items():
        print(f"NOT PROVEN {name}: {said}")
    print(f"{len(lines) - len(failed)} of {len(lines)} lines proven")
    return bool(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped. What is proven is remembered.")
