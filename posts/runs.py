"""Starting a task from the site, and reading how it goes from whichever results backend is set."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from celery import current_app, states
from kombu.exceptions import OperationalError

from .models import Run


class BrokerDown(Exception):
    """The task was not sent, and nothing of it was kept."""


def start_run(user, task, **arguments):
    """Send a task and record who asked for it.

    The record is there before the message: a task that starts at once finds it.

    Args:
        user (User): who asked.
        task (celery.Task): what to run.
        **arguments: the task's keyword arguments, all plain JSON values.

    Returns:
        Run: the record, with the task's id.

    Raises:
        BrokerDown: the broker does not answer.
    """
    run = Run.objects.create(
        task_id=uuid.uuid4(), task=task.name, arguments=arguments, started_by=user
    )
    try:
        task.apply_async(kwargs=arguments, task_id=str(run.task_id))
    except OperationalError as error:
        run.delete()
        raise BrokerDown(
            "The broker does not answer, so nothing was started. Try again when it is back."
        ) from error
    return run


@dataclass
class Progress:
    """How a run goes: what its page shows.

    ``state`` is Celery's word for it. ``result`` is the return value of a run that succeeded,
    ``error`` names the exception of one that failed, and ``done`` and ``total`` count the steps
    of one that reports them. ``took`` counts from the click to the result, waiting included.
    """

    state: str
    worker: str = ""
    result: object = None
    error: str = ""
    traceback: str = ""
    done: int = 0
    total: int = 0
    took: timedelta | None = None

    @property
    def finished(self):
        return self.state in states.READY_STATES

    @property
    def percent(self):
        return 100 * self.done // self.total if self.total else 0


def progress_of(run):
    """Ask the results backend how a run goes. One look-up.

    PENDING also means that the backend has never heard of the task: no worker has taken it yet.

    Args:
        run (Run): the run.

    Returns:
        Progress: what is known.
    """
    meta = current_app.backend.get_task_meta(str(run.task_id))
    state, result = meta["status"], meta["result"]
    progress = Progress(state, worker=meta.get("worker") or "")
    if state == states.STARTED:
        progress.worker = result["hostname"]
    elif state == "PROGRESS":
        progress.done, progress.total = result["done"], result["total"]
    elif state == states.SUCCESS:
        progress.result = result
    elif state in states.EXCEPTION_STATES:
        progress.error = f"{type(result).__name__}: {result}"
        progress.traceback = meta.get("traceback") or ""
    if progress.finished:
        ended = meta["date_done"]
        # The database backend gives a datetime, the others its ISO form.
        ended = datetime.fromisoformat(ended) if isinstance(ended, str) else ended
        progress.took = ended - run.created_at
    return progress
