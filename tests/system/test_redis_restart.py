"""A Redis that restarts or hangs loses nothing, strands nothing and ends no worker."""

import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from celery import current_app
from django import db
from kombu import Connection
from kombu.exceptions import OperationalError

from tests.services import wait_for
from tests.tasks import early, late

RETRY = {"max_retries": 20, "interval_start": 0, "interval_step": 0.2, "interval_max": 1}


class Journal:
    """What the tasks have written: which have begun, which have ended, how often."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.touch()

    def count(self, word):
        lines = (line.split() for line in self.path.read_text().splitlines())
        return Counter(int(number) for found, number in lines if found == word)

    def mid_task(self, seconds):
        """Whether a task of these seconds runs, and no line is brand-new or about to come.

        Redis stopped beside an acknowledgement loses that acknowledgement, whatever the client
        does; that is not what these tests are about.
        """
        age = time.time() - self.path.stat().st_mtime
        return self.count("start") != self.count("end") and 0.1 < age < seconds / 2


@pytest.fixture
def journal(folder):
    return Journal(folder / "journal")


@pytest.fixture
def send(own_redis, journal):
    """Send a task to this test's own Redis: ``send(early, number, seconds)``."""

    def send_task(task, number, seconds):
        with Connection(own_redis.url(), transport_options={"socket_timeout": 2}) as connection:
            arguments = [str(journal.path), number, seconds]
            task.apply_async(arguments, connection=connection, retry_policy=RETRY)

    return send_task


def start_worker(start, redis, *options):
    env = {"CELERY_BROKER_URL": redis.url()}
    return start.worker("--include", "tests.tasks", *options, env=env)


@pytest.mark.proves("CELERY_WORKER_CONSUMER")
@pytest.mark.parametrize(
    ("load", "signum"),
    [("all processes busy", signal.SIGKILL), ("one process free", signal.SIGTERM)],
)
def test_redis_restarts_in_the_middle_of_work(start, own_redis, journal, send, load, signum):
    """CELERY_WORKER_DISABLE_PREFETCH and CELERY_WORKER_CONSUMER.

    With prefetching, reserved messages stay in `unacked` for a visibility timeout. Without the
    consumer of blog/consumer.py, the worker of Celery 5.7.0 exits when Redis restarts while a
    late-acknowledged task runs and a process is free.
    """
    busy = load == "all processes busy"
    worker = start_worker(start, own_redis, *(["-c", "1"] if busy else []))
    sent = []

    def send_all(numbers, tasks, seconds):
        for number in numbers:
            send(random.choice(tasks), number, seconds)
            sent.append(number)

    if busy:
        send_all(range(12), [early, late], 0.5)
        wait_for(lambda: len(journal.count("end")) >= 3, "three tasks to end")
    else:
        send_all(range(1), [late], 6)
    wait_for(lambda: journal.mid_task(0.5 if busy else 6), "the middle of a task")
    own_redis.stop(signum)

    def send_from_elsewhere():
        try:
            send_all(range(100, 105), [early, late], 0.2)
        finally:
            db.connection.close()  # calls are in the database, and each thread has its own

    while_away = threading.Thread(target=send_from_elsewhere)
    while_away.start()
    wait_for(
        lambda: not worker.running or "Cannot connect" in worker.output, "the worker to notice"
    )
    own_redis.start()
    while_away.join(40)
    send_all(range(200, 203), [early, late], 0.2)

    wait_for(
        lambda: not worker.running or set(journal.count("end")) >= set(sent),
        lambda: f"all tasks: {set(sent) - set(journal.count('end'))} left.\n{worker.output}",
        60,
    )
    assert worker.running, worker.output
    client = own_redis.client()
    wait_for(lambda: not client.hlen("unacked") and not client.llen("celery"), "an empty broker")
    assert set(journal.count("end").values()) == {1}, "each ran once"


def test_redis_hangs_for_a_while(start, own_redis, journal, send):
    """The worker goes on with what it has, and takes more when Redis answers again."""
    worker = start_worker(start, own_redis)
    for number in range(4):
        send(random.choice([early, late]), number, 1)
    wait_for(lambda: journal.mid_task(1), "the middle of a task")
    own_redis.process.popen.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: journal.count("start") == journal.count("end"), "the running ones to end")
    finally:
        own_redis.process.popen.send_signal(signal.SIGCONT)
    wait_for(lambda: len(journal.count("end")) == 4, lambda: f"all four:\n{worker.output}", 60)
    assert worker.running
    assert set(journal.count("end").values()) == {1}


def test_sending_to_a_redis_that_hangs_ends_with_an_error(own_redis, journal, monkeypatch):
    """socket_timeout and CELERY_TASK_PUBLISH_RETRY_POLICY: without them delay() blocks for ever."""
    own_redis.process.popen.send_signal(signal.SIGSTOP)
    outcome = []

    def call():
        options = current_app.conf.broker_transport_options
        with Connection(own_redis.url(), transport_options=options) as connection:
            try:
                early.apply_async(
                    [str(journal.path), 1, 0], connection=connection, track=False, outbox=False
                )
            except OperationalError as error:
                outcome.append(error)

    try:
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join(30)
        assert outcome, "delay() still waits"
    finally:
        own_redis.process.popen.send_signal(signal.SIGCONT)
        thread.join(30)
