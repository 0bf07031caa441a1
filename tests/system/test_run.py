"""`make run`: the whole site with one command, and nothing left when it ends."""

import importlib.util
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests import services
from tests.services import ROOT, Process, Visitor, free_port, wait_for

#: What the tests' own settings put into the environment; a newcomer has none of it.
NOTHING_SET = dict.fromkeys(
    [
        "CELERY_BROKER_URL",
        "DATABASE_URL",
        "DEBUG",
        "ENV_FILE",
        "EXPORT_SECONDS",
        "STATE_DIR",
        "TEST_DATABASE_URL",
    ]
)


SHOW_SCHEDULES = """
from django_celery_beat.models import PeriodicTask
for task in PeriodicTask.objects.all():
    print(task)
"""


class Site:
    """A clone that runs."""

    def __init__(self, clone, **variables):
        self.clone, self.port, self.flower_port = clone, free_port(), free_port()
        self.env = {
            **NOTHING_SET,
            "PORT": str(self.port),
            "FLOWER_PORT": str(self.flower_port),
            **variables,
        }
        (clone / ".env").write_text((ROOT / ".env.example").read_text())
        log = clone.parent / f"run-{self.port}.log"
        self.process = Process([sys.executable, "scripts/run.py"], log, self.env, clone)

    def wait(self):
        self.process.wait_for_output("Ctrl-C stops everything.", 60)
        return self

    def run(self, *command):
        """Run a command in a second terminal. Returns what it prints."""
        env = {**self.env, "PORT": None}
        log = self.clone.parent / f"{command[0]}-{free_port()}.log"
        process = Process(command, log, env, self.clone)
        process.wait(60)
        return process.output

    def sees_both_workers(self):
        """And beat, which answers a ping too."""
        return "3 nodes online." in self.run("celery", "-A", "blog", "status")


@pytest.fixture
def run_site(copy_of_the_site):
    """Start the copied clone: ``run_site(CELERY_BROKER_URL=…)``."""
    sites = []

    def run(clone=copy_of_the_site, **variables):
        sites.append(Site(clone, **variables))
        return sites[-1]

    yield run
    for site in sites:
        site.process.stop(seconds=60)


def files_of(folder):
    ignored = {"var", "__pycache__"}
    return {
        path.relative_to(folder)
        for path in folder.rglob("*")
        if not ignored & set(path.relative_to(folder).parts)
    }


def test_from_nothing_to_a_task_and_back_to_nothing(run_site, copy_of_the_site):
    before = files_of(copy_of_the_site)
    site = run_site().wait()
    assert f"Site    http://127.0.0.1:{site.port}/" in site.process.output
    assert "Sign in everywhere as «demo» with the password «demo»." in site.process.output

    visitor = Visitor(f"http://127.0.0.1:{site.port}")
    assert visitor.sign_in("demo", "demo").status == 200
    visitor.post("/tasks/run/add/", **{"add-x": 20, "add-y": 22, "add-seconds": 0})
    wait_for(lambda: "state-success" in visitor.get("/tasks/").text, "the result on the page")
    assert "state-failure" not in visitor.get("/tasks/").text

    flower = Visitor(f"http://127.0.0.1:{site.flower_port}")
    wait_for(lambda: flower_status(flower) == 401, "Flower, which asks for a password")

    schedules = site.run("python", "manage.py", "shell", "-v0", "-c", SHOW_SCHEDULES)
    assert "Publish scheduled posts: every minute" in schedules

    wait_for(site.sees_both_workers, "both workers, seen from a second terminal")
    wait_for(lambda: "RUNNING" in site.run("supervisorctl", "status", "beat"), "beat")

    family = site.process.family()
    names = " ".join(" ".join(process.cmdline()) for process in family)
    for program in ("redis-server", "gunicorn", "worker", "beat", "flower"):
        assert program in names
    site.process.popen.send_signal(signal.SIGINT)
    assert site.process.wait(60) == 0
    assert site.process.output.endswith("Stopped.\n")
    assert not [process for process in family if process.is_running()]
    assert not (copy_of_the_site / "var" / "run.env").exists()
    assert files_of(copy_of_the_site) - before == {Path(".env")}, "all it writes is in var/"


def flower_status(flower):
    try:
        return flower.get("/").status
    except OSError:
        return None


def test_the_second_start_keeps_what_is_there(run_site):
    first = run_site().wait()
    assert "Loaded 8 demo posts." in first.process.output
    visitor = Visitor(f"http://127.0.0.1:{first.port}")
    visitor.sign_in("demo", "demo")
    visitor.post("/tasks/run/add/", **{"add-x": 20, "add-y": 22, "add-seconds": 0})
    wait_for(lambda: "state-success" in visitor.get("/tasks/").text, "the result on the page")

    refused = run_site()
    refused.process.wait()
    assert "make run: this clone runs already" in refused.process.output

    first.process.stop(signal.SIGINT, 60)
    second = run_site(first.clone).wait()
    assert "Loaded" not in second.process.output
    visitor = Visitor(f"http://127.0.0.1:{second.port}")
    visitor.sign_in("demo", "demo")
    assert "x=20, y=22" in visitor.get("/tasks/").text


def test_a_given_broker_is_used_and_no_redis_started(run_site, own_redis):
    site = run_site(CELERY_BROKER_URL=own_redis.url()).wait()
    names = [" ".join(process.cmdline()) for process in site.process.family()]
    assert not [name for name in names if "redis-server" in name]
    wait_for(site.sees_both_workers, "both workers")


def test_two_clones_run_side_by_side(run_site, copy_of_the_site):
    other = copy_of_the_site.with_name("other")
    services.copy_site(other)
    sites = [run_site().wait(), run_site(other).wait()]
    for number, site in enumerate(sites):
        visitor = Visitor(f"http://127.0.0.1:{site.port}")
        visitor.sign_in("demo", "demo")
        visitor.post("/tasks/run/add/", **{"add-x": number, "add-y": 22, "add-seconds": 0})
        wait_for(lambda visitor=visitor: "state-success" in visitor.get("/tasks/").text, "success")
        assert visitor.get("/tasks/").text.count(' id="run-') == 1
        wait_for(site.sees_both_workers, "both workers")


@pytest.mark.parametrize("name", ["PORT", "FLOWER_PORT"])
def test_a_port_in_use_is_one_clear_line(run_site, name):
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = str(taken.getsockname()[1])
        site = run_site(**{name: port})
        assert site.process.wait() == 1
    assert re.fullmatch(
        rf"make run: port {port} cannot be used: Address already in use\. "
        rf"Choose another: make run {name}=…\n",
        site.process.output,
    )


@pytest.mark.parametrize("port", ["soon", "70000"])
def test_a_bad_port_is_one_clear_line(run_site, port):
    site = run_site(PORT=port)
    assert site.process.wait() == 1
    assert site.process.output.startswith("make run: ")
    assert site.process.output.count("\n") == 1


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"CELERY_RESULT_BACKEND": "django-bd"}, "CELERY_RESULT_BACKEND 'django-bd' does not"),
        ({"DEBUG": "false"}, "without DEBUG, set FLOWER_BASIC_AUTH=user:password"),
        ({"DEBUG": "false", "FLOWER_BASIC_AUTH": "me:secret"}, "SECRET_KEY is not set"),
        ({"BROKER_HOST": "rabbit"}, "BROKER_USER, BROKER_PASSWORD, BROKER_PORT, BROKER_VHOST not"),
        ({"DEBUG": "perhaps"}, 'Environment variable "DEBUG" invalid'),
    ],
)
def test_a_bad_configuration_is_said_without_a_traceback(run_site, variables, message):
    site = run_site(**variables)
    assert site.process.wait() == 1
    assert message in site.process.output
    assert "Traceback" not in site.process.output


def test_a_program_that_fails_is_named(run_site, copy_of_the_site):
    conf = copy_of_the_site / "supervisord.conf"
    text = conf.read_text().replace("celery -A blog worker -l INFO -Q slow", "false")
    conf.write_text(text.replace("startsecs=10", "startsecs=1\nstartretries=1"))
    site = run_site()
    assert site.process.wait(90) == 1
    assert "make run: celery:slow does not start. See its log in " in site.process.output


def test_a_missing_redis_server_is_one_clear_line(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("run", ROOT / "scripts" / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="there is no redis-server"):
        run.broker("")


def test_an_old_python_is_one_clear_line(copy_of_the_site):
    old = copy_of_the_site / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.8.1"; exit 1\n')
    old.chmod(old.stat().st_mode | stat.S_IXUSR)
    result = subprocess.run(
        ["make", "run", f"PYTHON={old}"], cwd=copy_of_the_site, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert "Python 3.11 or newer is needed, and" in result.stdout
    assert "is Python 3.8.1" in result.stdout
    assert not os.path.exists(copy_of_the_site / ".venv")


def test_make_alone_lists_the_targets():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True).stdout
    for target in [
        "run",
        "test",
        "lint",
        "format",
        "lock",
        "shell",
        "logs",
        "screenshots",
        "clean",
    ]:
        assert f"make {target} " in listed
