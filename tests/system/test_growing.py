"""What chapter 13 says of growing: PgBouncer, Redis Sentinel, quorum queues, as it prints them."""

import configparser
import re
import signal

import pytest
import redis

from tests.conftest import need
from tests.docs.pages import ROOT, Page
from tests.proofs.rabbitmq import RabbitMQ
from tests.services import BIN, Process, Visitor, find_program, free_port, port_answers, wait_for

CHAPTER = Page(ROOT / "docs" / "13-compose-and-production.md")

# Somebody begins a transaction while these posts are read, and is lent the connection.
READ = """
from django.db import connection
from posts.models import Post
posts = Post.objects.iterator(chunk_size=1)
next(posts)
with connection.copy().cursor() as somebody:
    somebody.execute("BEGIN")
    print("read", len(list(posts)))
"""


def listing(test, kind):
    """The text of the chapter's listing that names this test."""
    note = f"tests/system/test_growing.py::{test}"
    (text,) = (
        b.text for b in CHAPTER.blocks if b.kind == kind and b.notes.get("tested by") == note
    )
    return text


@pytest.fixture
def grown(start, folder):
    """Give the site the settings of a listing: ``grown("DATABASES[…] = …")``."""

    def use(lines):
        text = f"from blog.settings import *\nfrom blog.settings import Exchange, Queue\n{lines}"
        (folder / "grown.py").write_text(text)
        start.env |= {"DJANGO_SETTINGS_MODULE": "grown", "PYTHONPATH": str(folder)}

    return use


def run(start, code):
    """Run code in the site's shell, and return what it printed."""
    shell = start("python", "manage.py", "shell", "-v0", "-c", code)
    assert shell.wait(90) == 0, shell.output
    return shell.output


PREPARE = """
from django.conf import settings
from django.db import connection
from django.utils import timezone
from django_celery_results.models import TaskResult
from tasklog.rows import store

settings.DEBUG = False  # else no statement is prepared
values = {"status": "STARTED", "date_done": timezone.now()}
for _ in range(3):
    store(TaskResult, "default", "a task", values)
other = connection.copy().cursor()  # takes the only connection that the pool has by now
other.execute("BEGIN")
other.execute("SELECT 1")
store(TaskResult, "default", "a task", values)
"""
ADD = "from posts.tasks.basics import add; print(add.delay(2, 3, seconds=0).get(timeout=60))"


class PgBouncer(Process):
    """The chapter's PgBouncer, in front of a PostgreSQL of a test's own."""

    def __init__(self, postgres, folder):
        program = find_program("pgbouncer", "apt-get install pgbouncer", ["/usr/sbin"])
        ini = configparser.ConfigParser()
        ini.read_string(listing("test_pgbouncer", "ini"))
        self.port = free_port()
        ini["databases"]["blog"] = f"host=127.0.0.1 port={postgres.port} dbname=postgres user=blog"
        ini["pgbouncer"].update(
            listen_addr="127.0.0.1",
            listen_port=str(self.port),
            auth_type="any",
        )
        del ini["pgbouncer"]["auth_file"]
        path = folder / "pgbouncer.ini"
        with open(path, "w") as file:
            ini.write(file)
        super().__init__([*postgres.user, program, path], folder / "pgbouncer.log", cwd="/")
        self.url = f"postgres://blog@127.0.0.1:{self.port}/blog"
        wait_for(lambda: port_answers(self.port), lambda: self.output)


@pytest.fixture
def bouncer(start, own_postgres, folder):
    """PgBouncer in transaction mode, and the site's tables behind it."""
    start.env["DATABASE_URL"] = own_postgres.url
    migrate = start("python", "manage.py", "migrate", "--verbosity", "0")
    assert migrate.wait(90) == 0, migrate.output
    run(start, "from django.core.management import call_command; call_command('load_demo')")
    bouncer = need(lambda: PgBouncer(own_postgres, folder))
    start.env["DATABASE_URL"] = bouncer.url
    yield bouncer
    start.stop()
    bouncer.stop()


def test_pgbouncer(start, grown, bouncer):
    """Worker, web and shell work through it. Without the chapter's line it loses cursors, and with
    `prepare_threshold` the statements that were prepared."""
    failed = start("python", "manage.py", "shell", "-v0", "-c", READ)
    assert failed.wait(60) == 1
    assert re.search('cursor "_django_curs_.*" does not exist', failed.output)
    prepared = {"DATABASE_URL": f"{bouncer.url}?prepare_threshold=1"}
    failed = start("python", "manage.py", "shell", "-v0", "-c", PREPARE, env=prepared)
    assert failed.wait(60) == 1
    assert re.search('prepared statement "_pg3_.*" does not exist', failed.output)
    grown(listing("test_pgbouncer", "python"))
    assert "read " in run(start, READ)
    start.worker()
    visitor = Visitor(start.web().url)
    visitor.sign_in("demo", "demo")
    assert visitor.post("/tasks/export/").status == 200
    assert run(start, ADD).split()[-1] == "5"
    done = (
        "from tasklog.models import TaskCall as T; print(sorted(c.status for c in T.objects.all()))"
    )
    wait_for(lambda: run(start, done).split("\n")[-2] == "['SUCCESS', 'SUCCESS']", "both calls", 60)


PASSWORD = "redis4tests"


class Pair:
    """Two Redis servers, the second a follower of the first, and a Sentinel that watches."""

    def __init__(self, folder):
        self.program = find_program("redis-server", "apt-get install redis-server", [BIN])
        self.folder, self.started = folder, []
        self.ports = {name: free_port() for name in ("first", "second", "sentinel")}

    def start(self):
        options = ["--save", "", "--requirepass", PASSWORD, "--masterauth", PASSWORD]
        self.first = self.serve("first", *options)
        second = self.serve("second", *options, "--replicaof", "127.0.0.1", self.ports["first"])
        second.wait_for_output("Finished with success")
        conf = self.folder / "sentinel.conf"
        conf.write_text(
            f"sentinel monitor blog 127.0.0.1 {self.ports['first']} 1\n"
            f"sentinel auth-pass blog {PASSWORD}\n"
            "sentinel down-after-milliseconds blog 1000\n"
            # Default: 3 minutes. A failover that failed is tried again after twice that.
            "sentinel failover-timeout blog 3000\n"
        )
        self.serve("sentinel", conf, "--sentinel")

    def serve(self, name, *options):
        command = [self.program, *options, "--port", self.ports[name], "--bind", "127.0.0.1"]
        process = Process([*command, "--dir", self.folder], self.folder / f"{name}.log")
        self.started.append(process)
        wait_for(lambda: port_answers(self.ports[name]), lambda: process.output)
        return process

    def stop(self):
        for process in self.started:
            process.stop(signal.SIGKILL)


@pytest.fixture
def pair(start, folder):
    pair = need(lambda: Pair(folder))
    try:
        pair.start()
        yield pair
        start.stop()
    finally:
        pair.stop()


def test_redis_sentinel(start, grown, pair):
    """The first Redis dies, the second takes over, and the same worker goes on with it."""
    grown(listing("test_redis_sentinel", "python"))
    port = pair.ports["sentinel"]
    start.env["CELERY_BROKER_URL"] = f"sentinel://:{PASSWORD}@127.0.0.1:{port}"
    sentinel = redis.Redis(port=port)
    wait_for(lambda: sentinel.sentinel_slaves("blog"), "a follower that the Sentinel knows")
    worker = start.worker()
    assert run(start, ADD).split()[-1] == "5"
    pair.first.stop(signal.SIGKILL)
    wait_for(
        lambda: sentinel.sentinel_get_master_addr_by_name("blog")[1] == pair.ports["second"],
        "the second Redis to take over",
    )
    assert run(start, ADD).split()[-1] == "5"
    assert worker.running


@pytest.fixture
def rabbitmq(start, folder):
    server = need(lambda: RabbitMQ(folder / "mq")).start()
    yield server
    start.stop()
    server.stop()


def test_quorum_queues(start, grown, rabbitmq):
    """Both queues are of that kind, and a task comes through."""
    grown(listing("test_quorum_queues", "python"))
    start.env["CELERY_BROKER_URL"] = rabbitmq.url
    start.worker()
    assert run(start, ADD).split()[-1] == "5"
    rabbitmq.ctl("list_queues", "name", "type")
    kinds = (rabbitmq.folder / "ctl.log").read_text()
    assert {"celery\tquorum", "slow\tquorum"} <= set(kinds.splitlines())
