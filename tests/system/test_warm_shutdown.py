"""What a worker has just handed to a process when it is told to stop runs once."""

import os
import signal
from pathlib import Path

import pytest

from tests.services import wait_for
from tests.tasks import early, late


@pytest.mark.proves("CELERY_WORKER_CONSUMER")
@pytest.mark.parametrize("task", [early, late])
def test_a_task_that_is_handed_to_a_process_at_a_stop_runs_once(start, redis_server, folder, task):
    """Without the consumer of blog/consumer.py, the worker of Celery 5.7.0 forgets the task, the
    process runs it, nobody acknowledges it, and the next worker runs it again.
    """
    journal = Path(folder / "journal")
    journal.touch()
    broker = redis_server.client()
    worker = start.worker("-c", "1", "--include", "tests.tasks")
    (pool_process,) = worker.family()[1:]
    pool_process.suspend()  # it is given the task, and cannot say that it accepts it
    task.delay(str(journal), 1, 0)
    worker.wait_for_output("received")
    os.kill(worker.pid, signal.SIGTERM)

    def has_begun_to_stop():
        mailbox = broker.exists("_kombu.binding.celery.pidbox")
        return "have to accept" in worker.output or not mailbox

    wait_for(has_begun_to_stop, lambda: f"the stop:\n{worker.output}")
    pool_process.resume()
    assert worker.wait(90) == 0
    start.worker("--include", "tests.tasks")
    wait_for(lambda: "end" in journal.read_text(), "the task to run")
    wait_for(lambda: not broker.exists("celery", "unacked"), "its acknowledgement")
    assert journal.read_text() == "start 1\nend 1\n"
