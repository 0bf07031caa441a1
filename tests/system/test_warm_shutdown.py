"""What a worker has just handed to a process when it is told to stop runs once."""

import os
import signal
from pathlib import Path

import pytest
from celery import current_app

from tests.services import wait_for
from tests.tasks import early, late


@pytest.fixture
def journal(folder):
    path = Path(folder / "journal")
    path.touch()
    return path


@pytest.fixture
def handed(start, redis_server):
    """A worker that is told to stop when it has handed a task to a process, which is suspended: it
    cannot say that it accepts the task.
    """
    broker = redis_server.client()
    worker = start.worker("-c", "1", "--include", "tests.tasks")
    (worker.pool_process,) = worker.family()[1:]

    def hand(task, journal):
        worker.pool_process.suspend()
        task.delay(str(journal), 1, 0)
        worker.wait_for_output("received")
        # It answers when it has handed the task over.
        assert current_app.control.ping(timeout=5, limit=1)
        os.kill(worker.pid, signal.SIGTERM)
        wait_for(has_begun_to_stop, lambda: f"the stop:\n{worker.output}")
        return worker

    def has_begun_to_stop():
        mailbox = broker.exists("_kombu.binding.celery.pidbox")
        return "have to accept" in worker.output or not mailbox

    return hand


def the_next_worker_finishes(start, redis_server, journal):
    start.worker("--include", "tests.tasks")
    broker = redis_server.client()
    wait_for(lambda: "end" in journal.read_text(), "the task to run")
    wait_for(lambda: not broker.exists("celery", "unacked"), "its acknowledgement")
    assert journal.read_text() == "start 1\nend 1\n"


@pytest.mark.proves("CELERY_WORKER_CONSUMER")
@pytest.mark.parametrize("task", [early, late])
def test_a_task_that_is_handed_to_a_process_at_a_stop_runs_once(
    start, redis_server, journal, handed, task
):
    """Without the consumer of blog/consumer.py, the worker of Celery 5.7.0 forgets the task, the
    process runs it, nobody acknowledges it, and the next worker runs it again.
    """
    worker = handed(task, journal)
    worker.pool_process.resume()
    assert worker.wait(90) == 0
    the_next_worker_finishes(start, redis_server, journal)


def test_a_process_that_does_not_accept_its_task_does_not_hold_up_a_stop(
    start, redis_server, journal, handed
):
    """The worker names the task that may run twice, goes on with its stop, and nothing is lost."""
    worker = handed(early, journal)
    worker.wait_for_output(f"may run twice: {early.name}[")
    worker.pool_process.kill()
    assert worker.wait(90) == 0
    the_next_worker_finishes(start, redis_server, journal)
