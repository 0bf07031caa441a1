"""Fixtures: a real Redis, real workers, a real web server, a real browser."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from celery import current_app
from django.contrib.auth.hashers import make_password
from django.core.management import call_command
from django.db import connection

from . import services
from .services import ROOT, Process, wait_for
from .settings import BROKER


def need(make):
    """Return what ``make`` returns; skip the test where a program is missing."""
    try:
        return make()
    except LookupError as error:
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """With NO_SKIPS set, as in CI, a test that would be skipped fails."""
    report = yield
    if report.skipped and os.environ.get("NO_SKIPS") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"NO_SKIPS is set, and this was skipped: {call.excinfo.value}"
    return report


# What takes minutes comes first, or one process would be left with it when the others have ended.
LONG = ["test_later_chapters.py", "test_guide.py", "test_stress.py", "test_secrets.py"]
LONG += ["test_run.py", "test_redis.py", "test_beat.py", "test_workers.py", "test_tasks.py"]
LONG += ["test_task_browser.py", "test_probes.py", "test_supervisor.py"]


def pytest_collection_modifyitems(config, items):
    """Put the long files first; leave out what is about SQLite on another database."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    if connection.vendor != "sqlite":
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("sqlite")])
        items[:] = [i for i in items if not i.get_closest_marker("sqlite")]


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """An empty database from the first test on.

    Tests with real processes empty it at their end, and with it what migrations have put there
    (the schedules). Emptied at once, no test depends on which ran before it.
    """
    with django_db_blocker.unblock():
        call_command("flush", interactive=False, verbosity=0)


@pytest.fixture(autouse=True)
def results_backend():
    """Celery makes its results backend at first use and keeps it: make it before a test changes
    settings, or the next tests would get one with those."""
    return current_app.backend


@pytest.fixture
def folder():
    """A folder with a short name: sockets in pytest's own tmp_path have too long ones."""
    path = Path(tempfile.mkdtemp(prefix="blog-"))
    path.chmod(0o711)  # PostgreSQL, which does not run as root, has its folder in it
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server():
    """The broker of this test process: settings.CELERY_BROKER_URL."""
    server = need(BROKER.start)
    yield server
    server.stop()


@pytest.fixture
def own_redis(folder):
    """A Redis that a test may stop, kill and restart."""
    server = need(services.Redis(folder / "redis").start)
    yield server
    if server.process.running:
        server.stop()


@pytest.fixture
def own_postgres(folder):
    """A PostgreSQL that a test may stop and restart."""
    server = need(lambda: services.Postgres(folder / "postgres")).start()
    yield server
    if server.process.running:
        server.stop()


def database_url():
    """The test database, for the processes that tests start."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{database['NAME']}"
    return "postgres://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**database)


class Starter:
    """Starts programs of the site as a user would, with the test database and broker."""

    def __init__(self, folder, env=None):
        self.folder, self.env, self.started = folder, env or {}, []

    def __call__(self, *command, env=None, cwd=ROOT):
        """Start a program: ``start("celery", "-A", "blog", "status")``. Returns a Process."""
        log = self.folder / f"{len(self.started)}-{Path(command[0]).name}.log"
        env = {"DATABASE_URL": database_url(), **self.env, **(env or {})}
        process = Process(command, log, env, cwd)
        self.started.append(process)
        return process

    def worker(self, *options, env=None, cwd=ROOT):
        """Start a worker and wait until it is ready: ``start.worker("-Q", "slow")``."""
        name = f"test{services.free_port()}@%h"
        options = ["-l", "INFO", "-c", "2", "-n", name, *options]
        worker = self("celery", "-A", "blog", "worker", *options, env=env, cwd=cwd)
        return worker.wait_for_output(" ready.")

    def web(self, env=None, cwd=ROOT):
        """Start gunicorn and wait until it answers. The site's address is ``web.url``."""
        port = services.free_port()
        options = ["--bind", f"127.0.0.1:{port}", "--threads", "4", "--access-logfile", "-"]
        web = self("gunicorn", "blog.wsgi", *options, env=env, cwd=cwd)
        wait_for(lambda: services.port_answers(port), lambda: f"the site:\n{web.output}")
        web.url = f"http://127.0.0.1:{port}"
        return web

    def stop(self):
        """End all at once, and all they have started: how they stop is for tests to ask."""
        for process in reversed(self.started):
            process.stop(signal.SIGKILL)


@pytest.fixture
def start(folder, redis_server, transactional_db):
    """Start programs that end with the test. The broker is empty at first."""
    redis_server.client().flushdb()
    starter = Starter(folder)
    yield starter
    starter.stop()


@pytest.fixture(scope="module")
def start_once(redis_server, django_db_setup, django_db_blocker, tmp_path_factory):
    """Start programs that serve all tests of a module (which then may not use ``start``)."""
    redis_server.client().flushdb()
    starter = Starter(tmp_path_factory.mktemp("once"))
    yield starter
    starter.stop()
    with django_db_blocker.unblock():  # what a task has stored after the last test's end
        call_command("flush", interactive=False, verbosity=0)


@pytest.fixture(scope="module")
def worker(start_once):
    """A worker of both queues."""
    return start_once.worker()


@pytest.fixture(scope="module")
def web(start_once):
    """The site, served by gunicorn. Its address is ``web.url``."""
    return start_once.web()


@pytest.fixture
def staff(transactional_db, django_user_model):
    """A staff account: `editor`, with password `correct horse`."""
    password = make_password("correct horse", hasher="pbkdf2_sha256")
    return django_user_model.objects.create(username="editor", password=password, is_staff=True)


@pytest.fixture
def make_posts(staff):
    """Make a number of posts without sending tasks: ``make_posts(3)``."""
    from posts.models import Post

    def make(number):
        posts = [
            Post(title=f"Post {n}", slug=f"post-{n}", body="Text", author=staff)
            for n in range(number)
        ]
        return Post.objects.bulk_create(posts)

    return make


@pytest.fixture
def copy_of_the_site(folder):
    """A copy of the project, without what it has written, for tests that change files."""
    copy = folder / "site"
    services.copy_site(copy)
    return copy
