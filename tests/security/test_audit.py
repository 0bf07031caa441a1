"""`make audit`: it says what it found, and never that all is well when nobody was asked."""

import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from packaging.markers import Marker
from packaging.utils import canonicalize_name

from tests.services import ROOT, free_port


class Service:
    """Answers as api.osv.dev does, without any knowledge but ``known``: {package: entries}."""

    def __init__(self):
        self.known, self.asked, outer = {}, set(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = query["package"]["name"]
                outer.asked.add(name)
                answer = json.dumps(outer.known.get(name, {})).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=[0.05], daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service():
    service = Service()
    yield service
    service.stop()


def audit(url, home):
    """Run `make audit`. Another service than PyPI, because pip-audit lets tests choose that."""
    if not (ROOT / ".venv" / "ready").exists():
        pytest.skip("the environment is not that of the Makefile: run `make test`")
    env = {**os.environ, "PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": url}
    env |= {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    # The environment as it is: this is about the audit, and not about making it.
    command = ["make", "--assume-old=.venv/ready", "audit"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def locked():
    """The packages of all categories of Pipfile.lock that this system would install."""
    lock = json.loads((ROOT / "Pipfile.lock").read_text())
    categories = [packages for name, packages in lock.items() if name != "_meta"]
    return {
        canonicalize_name(name)
        for packages in categories
        for name, package in packages.items()
        if Marker(package.get("markers", "python_version > '3'")).evaluate()
    }


def test_nothing_known_is_fine(service, tmp_path):
    result = audit(service.url, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert service.asked == locked()


def test_a_vulnerability_is_named(service, tmp_path):
    affected = {
        "package": {"name": "celery", "ecosystem": "PyPI"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.9"}]}],
    }
    service.known["celery"] = {
        "vulns": [{"id": "PYSEC-0", "summary": "It leaks", "affected": [affected]}]
    }
    result = audit(service.url, tmp_path)
    assert result.returncode != 0
    for word in ("celery", "PYSEC-0", "99.9"):
        assert word in result.stdout


def test_a_service_that_is_away_is_a_failure(tmp_path):
    result = audit(f"http://127.0.0.1:{free_port()}/", tmp_path)
    assert result.returncode != 0
    assert "the service could not be asked: then nothing is known" in result.stdout


def test_a_package_that_the_service_does_not_know_is_a_failure():
    """PyPI's service skips it, and pip-audit ends with 0, but for this option."""
    assert "pip-audit --strict " in (ROOT / "Makefile").read_text()
