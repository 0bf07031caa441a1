"""Nothing is lost, nothing is sent twice: with a broker that dies, and processes that are killed.

CALLS=1000 makes the longest one shorter.
"""

import json
import os
import re
import signal
import time
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django_celery_results.models import TaskResult

from tasklog.models import TaskCall
from tests.services import wait_for

CALLS = int(os.environ.get("CALLS", 10_000))
CALLERS = 2
OUTAGE = 10  # seconds
ROUNDS = 50
DISPATCHERS = 8

# The dispatcher comes often, and a process has less time to send its own.
CHANGES = json.dumps({"SEND_EVERY": 1, "RESEND_AFTER": 5})
ENV = {"DJANGO_SETTINGS_MODULE": "tests.tasklog.settings", "TASKLOG_CHANGES": CHANGES}


@pytest.fixture
def effects(transactional_db):
    """What was asked for, and what ran: ``effects("ran")`` counts each number."""
    tables = ("asked", "ran")

    def count(table):
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT number, count(*) FROM {table} GROUP BY number")
            return Counter(dict(cursor.fetchall()))

    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"CREATE TABLE {table} (number INTEGER)")
    yield count
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DROP TABLE {table}")


def start_program(start, *arguments, **env):
    return start("python", "-m", "tests.tasklog.programs", *map(str, arguments), env=ENV | env)


def answer_of(program, seconds=120):
    assert program.wait(seconds) == 0, program.output
    return json.loads(program.output.splitlines()[-1])


def start_site(start, **env):
    """A worker, and beat, which sends it the dispatcher."""
    start.worker("--include", "tests.tasklog.tasks", env=ENV | env)
    return start("celery", "-A", "blog", "beat", "-l", "INFO", "--pidfile=", env=ENV | env)


@pytest.mark.timeout(900)
def test_the_broker_dies_in_the_middle_of_many_calls(start, effects, own_redis):
    """All run. One runs twice only where its publish was cut off: one for each caller at most."""
    broker = {"CELERY_BROKER_URL": own_redis.url()}
    beat = start_site(start, **broker)
    share = CALLS // CALLERS
    callers = [
        start_program(start, "call", n * share, (n + 1) * share, **broker) for n in range(CALLERS)
    ]
    wait_for(lambda: effects("asked").total() > CALLS // 3, "a third of the calls", 120)
    own_redis.kill()
    time.sleep(OUTAGE)  # what it is about: not a moment for which something else stands
    own_redis.start()
    for caller in callers:
        answer_of(caller, 300)
    assert effects("asked") == Counter(range(CALLS))

    def all_ran():
        return len(effects("ran")) == CALLS

    def lost():
        """A message that the worker was taking when Redis died. After the visibility timeout
        Celery would give it to a worker again; what is silent can be found and sent before.
        """
        now = time.monotonic()
        ran = len(effects("ran"))
        if ran != progress["ran"]:
            progress.update(ran=ran, at=now)
        if now - progress["at"] < 15:  # seconds; the last of the queue may still be at work
            return False
        silent = TaskCall.objects.stale(timedelta(seconds=15))
        return not own_redis.client().llen("celery") and silent.exists()

    progress = {"ran": None}

    # As long as it takes, and as it goes on: a busy machine needs minutes.
    while not (all_ran() or lost()):
        before = len(effects("ran"))
        wait_for(
            lambda: len(effects("ran")) > before or all_ran() or lost(),  # noqa: B023
            lambda: f"all, not {len(effects('ran'))}",
            60,
        )
    taken = 0 if all_ran() else answer_of(start_program(start, "resend_stale", 15, **broker))
    wait_for(all_ran, lambda: f"all, not {len(effects('ran'))}")
    assert taken <= 2  # one for each process of the worker
    wait_for(nothing_is_left, "what ran to be noted as sent")
    beat.stop(signal.SIGKILL)
    wait_for(lambda: TaskResult.objects.filter(status="SUCCESS").count() == CALLS, "all results")
    cut_off = re.findall(r"is away: tests.tasklog.tasks.effect\[(.+?)]", outputs(callers))
    twice = [[number] for number, times in effects("ran").items() if times > 1]
    ids = [call.task_id for call in TaskCall.objects.filter(args__in=twice)]
    assert set(ids) <= set(cut_off)
    assert len(ids) <= CALLERS
    assert cut_off, "no call was made while the broker was away"


def nothing_is_left():
    return not TaskCall.objects.filter(sent_at=None).exists()


def outputs(programs):
    return "".join(program.output for program in programs)


def test_processes_are_killed_between_commit_and_publish(start, effects):
    """What was committed runs, what was rolled back does not.

    Twice runs at most what was with the broker already when its process died.
    """
    start_site(start)
    rounds = answer_of(start_program(start, "killed", ROUNDS))
    points = Counter(point for point, _first in rounds)
    assert points["die_before_publish"] == ROUNDS
    asked = effects("asked")
    wait_for(lambda: set(effects("ran")) >= set(asked), "all that was committed to run", 60)
    ran = effects("ran")
    assert set(ran) == set(asked)
    assert set(asked.values()) == {1}
    wait_for(nothing_is_left, "what ran to be noted as sent")
    for point, first in rounds:
        second = first + 1
        if point == "die_before_commit":
            assert second not in asked
        elif point == "die_before_publish":
            assert ran[second] == 1
        elif point in ("die_after_publish", "die_before_mark"):
            assert ran[second] in (1, 2)
    twice = {number for number, times in ran.items() if times > 1}
    assert len(twice) <= sum(points.values()) - points["die_before_commit"]


@pytest.fixture
def postgres_site(start, own_postgres):
    """A PostgreSQL with the site's tables."""
    env = {"DATABASE_URL": own_postgres.url}
    migrate = start("python", "manage.py", "migrate", "--verbosity", "0", env=env)
    assert migrate.wait(60) == 0, migrate.output
    return env


def dispatch_all(start, redis, calls, **env):
    """Let eight dispatchers send what is due. Return the share of each."""
    client = redis.client()
    client.delete("celery")
    shares = answer_of(start_program(start, "dispatchers", DISPATCHERS, calls, **env))
    ids = [json.loads(raw)["headers"]["id"] for raw in client.lrange("celery", 0, -1)]
    assert sorted(ids) == sorted(f"due-{n}" for n in range(calls))
    assert sum(shares) == calls
    assert sum(share > 0 for share in shares) > 1, "one did it all"


def test_eight_dispatchers_on_postgresql(start, redis_server, postgres_site):
    """FOR UPDATE SKIP LOCKED."""
    dispatch_all(start, redis_server, 10_000, **postgres_site)


@pytest.mark.sqlite
def test_eight_dispatchers_on_sqlite(start, redis_server):
    """A conditional UPDATE for each call."""
    dispatch_all(start, redis_server, 3_000)
    assert not TaskCall.objects.filter(sent_at=None).exists()
