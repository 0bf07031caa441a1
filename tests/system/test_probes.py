"""How one asks whether a process lives: a worker's file, beat's ping, the site's /health/."""

import json
import os
import signal
import socket
import time

import pytest

from posts.queues import read_figures
from posts.tasks.basics import add
from tests.services import Visitor, free_port, wait_for
from tests.tasks import come_again

STALE = 10  # seconds without a heartbeat; docker/probe-worker allows 30


@pytest.fixture
def state(folder):
    """STATE_DIR of the processes of a test."""
    path = folder / "state"
    path.mkdir()
    return path


@pytest.fixture
def probed_worker(start, state):
    """A worker of one process named `probe@here`, and its heartbeat file."""

    def run(*options, **env):
        worker = start.worker(
            "-n", "probe@here", "-c", "1", *options, env={"STATE_DIR": str(state), **env}
        )
        return worker, state / "heartbeats" / "probe@here"

    return run


def age(path):
    return time.time() - path.stat().st_mtime


def refreshed(path, times=3):
    """Wait until a file was touched a number of times."""
    for _ in range(times):
        before = path.stat().st_mtime_ns
        wait_for(lambda: path.stat().st_mtime_ns > before, "the next heartbeat", STALE)  # noqa: B023


def grows_old(path):
    """Wait until a file was not touched for a while."""
    return wait_for(lambda: age(path) > 6, f"no heartbeat in {path.name}", 20)


@pytest.mark.proves("heartbeat", fails="FileNotFoundError")
def test_a_worker_leaves_a_file_at_once_and_refreshes_it(probed_worker):
    """Without it, no file tells whether a worker lives, and containers are never healthy."""
    _, path = probed_worker()
    assert age(path) < STALE
    refreshed(path)


def test_a_busy_worker_goes_on(probed_worker):
    """Its only process is at work for longer than a file may be old."""
    _, path = probed_worker()
    result = add.delay(1, 2, seconds=30)
    wait_for(lambda: result.state == "STARTED", "the task to start")
    refreshed(path, 4)
    assert result.state == "STARTED"
    result.revoke(terminate=True)


def test_the_file_of_a_stopped_worker_grows_old(probed_worker):
    worker, path = probed_worker()
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        grows_old(path)
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    refreshed(path, 1)


def test_the_file_of_a_killed_worker_grows_old(probed_worker):
    worker, path = probed_worker()
    worker.stop(signal.SIGKILL)
    grows_old(path)


def test_the_file_of_a_worker_without_broker_grows_old_until_it_is_back(probed_worker, own_redis):
    worker, path = probed_worker(CELERY_BROKER_URL=own_redis.url())
    refreshed(path, 1)
    own_redis.stop()
    grows_old(path)
    assert worker.running
    own_redis.start()
    wait_for(lambda: age(path) < 2, "a heartbeat after the restart", 30)


@pytest.mark.proves("CELERY_BEAT_ENABLE_REMOTE_CONTROL")
def test_the_ping_of_beat(start, state):
    """0 while it lives, 69 when it is gone. Without it, beat answers nobody."""
    host = socket.gethostname()
    env = {"STATE_DIR": str(state)}
    beat = start("celery", "-A", "blog", "beat", "-l", "INFO", "--pidfile=", env=env)
    beat.wait_for_output("beat pidbox: Connected")

    def ping(node):
        command = ["celery", "-A", "blog", "inspect", "ping", "-t", "2", "-d", node]
        return start(*command, env=env).wait(30)

    assert ping(f"celerybeat@{host}") == 0
    os.kill(beat.pid, signal.SIGSTOP)
    assert ping(f"celerybeat@{host}") == 69
    os.kill(beat.pid, signal.SIGCONT)
    assert ping(f"celerybeat@{host}") == 0
    beat.stop(signal.SIGKILL)
    assert ping(f"celerybeat@{host}") == 69


def ask(web):
    """Open /health/. Returns status, answers and seconds."""
    before = time.monotonic()
    response = Visitor(web.url).get("/health/")
    return response.status, json.loads(response.text), time.monotonic() - before


def test_health_tells_a_broker_that_is_gone_or_hangs(start, own_redis):
    web = start.web(env={"CELERY_BROKER_URL": own_redis.url()})
    assert ask(web)[:2] == (200, {"database": "ok", "broker": "ok"})

    os.kill(own_redis.process.pid, signal.SIGSTOP)
    try:
        status, answers, seconds = ask(web)
    finally:
        os.kill(own_redis.process.pid, signal.SIGCONT)
    assert (status, answers["database"]) == (503, "ok")
    assert answers["broker"].startswith("OperationalError: ")
    assert seconds < 5

    own_redis.stop()
    status, answers, seconds = ask(web)
    assert (status, answers["database"]) == (503, "ok")
    assert answers["broker"].startswith("OperationalError: ")
    assert seconds < 5

    own_redis.start()
    assert ask(web)[0] == 200


def test_health_tells_a_database_that_is_gone(start, own_postgres):
    web = start.web(env={"DATABASE_URL": own_postgres.url})
    assert ask(web)[:2] == (200, {"database": "ok", "broker": "ok"})
    own_postgres.stop()
    status, answers, _ = ask(web)
    assert (status, answers["broker"]) == (503, "ok")
    assert answers["database"].startswith("OperationalError: ")
    own_postgres.start()
    assert ask(web)[0] == 200


def test_health_with_rabbitmq_that_is_gone_or_hangs(start):
    """amqp://, without a server: a closed port, and a port where nobody ever says a word."""
    web = start.web(env={"CELERY_BROKER_URL": f"amqp://u:p@127.0.0.1:{free_port()}//"})
    status, answers, _ = ask(web)
    assert (status, answers["database"]) == (503, "ok")
    assert answers["broker"].startswith("OperationalError: ")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://u:p@127.0.0.1:{silent.getsockname()[1]}//"
        web = start.web(env={"CELERY_BROKER_URL": url})
        ask(web)  # the first answer comes when the site is loaded
        status, answers, seconds = ask(web)
    assert status == 503
    assert answers["broker"].startswith("OperationalError: ")
    assert seconds < 5


def test_only_processes_that_answer_are_counted(start, state):
    """The figures of the queues: a worker that is busy is there, one that hangs is not."""
    busy, hanging = start.worker("-n", "busy@here"), start.worker("-n", "hanging@here")
    beat = start("celery", "-A", "blog", "beat", "-l", "INFO", "--pidfile=")
    beat.wait_for_output("beat pidbox: Connected")
    for _ in range(4):
        add.delay(1, 2, seconds=20)
    os.kill(hanging.pid, signal.SIGSTOP)
    here = ["busy@here"], [f"celerybeat@{socket.gethostname()}"]

    def figures():
        found = read_figures()
        return found.workers, found.beats

    try:
        wait_for(lambda: figures() == here, lambda: f"{here}, not {figures()}")
    finally:
        os.kill(hanging.pid, signal.SIGCONT)
    for process in (busy, hanging, beat):
        process.stop(signal.SIGKILL)
    assert read_figures().workers == []


def test_a_retry_that_waits_is_not_acknowledged(start, state):
    """It waits in a worker, whose processes are free: there may be more of them than processes."""
    start.worker("-c", "1", "--include", "tests.tasks", env={"STATE_DIR": str(state)})
    for _ in range(3):
        come_again.delay(60)
    wait_for(lambda: read_figures().unacked == 3, lambda: f"3 unacknowledged: {read_figures()}")


def test_a_process_without_pages_sends_the_time_too(start):
    """The signal is connected with Django, not with the pages that show the figures."""
    code = "from blog.celery import square; square.delay(3)"
    shell = start("python", "manage.py", "shell", "-v0", "-c", code)
    assert shell.wait() == 0, shell.output
    waiting = {queue.name: queue.waiting for queue in read_figures().queues}
    assert 0 <= waiting["celery"] < 60
