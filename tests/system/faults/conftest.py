"""A site whose servers and programs each test may break. What the next one gets is whole again."""

import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from tests import services
from tests.conftest import need

from .site import Site, processes_of, signal_all


@pytest.fixture(scope="session")
def servers():
    """A Redis and a PostgreSQL with the site's tables, for all tests of faults."""
    folder = Path(tempfile.mkdtemp(prefix="blog-"))
    folder.chmod(0o711)
    redis = need(services.Redis(folder / "redis").start)
    postgres = need(lambda: services.Postgres(folder / "postgres")).start()
    site = Site(folder, redis, postgres)
    migrated = site.manage("migrate", "--verbosity", "0")
    assert migrated.wait() == 0, migrated.output
    site.query("CREATE TABLE asked (number integer PRIMARY KEY, task_id text)")
    site.query("CREATE TABLE runs (number integer)")
    site.query("CREATE TABLE effects (number integer PRIMARY KEY)")
    yield redis, postgres
    for server in (redis, postgres):
        if server.process.running:
            server.stop()
    shutil.rmtree(folder, ignore_errors=True)


TABLES = (
    "asked, runs, effects, tasklog_taskcall, django_celery_results_taskresult, "
    "django_celery_beat_periodictask, posts_export, posts_post, auth_user"
)


@pytest.fixture
def site(servers, folder):
    """The site, with nothing in its queues and tables. At the end no process of it may be left."""
    redis, postgres = servers
    for server in servers:
        signal_all(server, signal.SIGCONT)
        if not server.process.running:
            server.start()
    client = redis.client()
    client.config_set("maxmemory", 0)
    client.flushall()
    site = Site(folder, redis, postgres)
    site.query(f"TRUNCATE {TABLES} CASCADE")
    yield site
    for server in servers:
        signal_all(server, signal.SIGCONT)
    for program in site.start.started:
        for process in processes_of(program):
            process.kill()
        program.wait()
