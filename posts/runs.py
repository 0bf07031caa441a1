"""Starting a task from the site, and cancelling it."""

import uuid
from dataclasses import dataclass

from celery import current_app
from django.utils import timezone
from kombu.exceptions import OperationalError

from .models import Run
from .queues import quick_connection

BROKER_TIMEOUT = 1  # seconds
DOWN = "The broker does not answer, so nothing was started. Try again when it is back."
UNHEARD = (
    "The broker does not answer, so no worker was told. What waits will not begin; what works "
    "already goes on: cancel it again when the broker is back."
)


class BrokerDown(Exception):
    """The broker does not answer. Nothing was sent, and nothing of it was kept."""


def part_id(run_id, name):
    """Return the id of a part of a run.

    It follows from the run's id, so it need not be stored, and a part that is sent twice is the
    same task.

    Args:
        run_id (str | UUID): the id of the run's first task.
        name (str | int): which part, such as the name of its task.

    Returns:
        str: a UUID.
    """
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{run_id}/{name}"))


def check_broker():
    """Ask the broker for a sign of life.

    Publishing gives up by itself too, but only after 6 s with a Redis that hangs: it tries twice,
    and each try waits for CELERY_BROKER_TRANSPORT_OPTIONS' timeouts. Tasks and workers need that
    patience, somebody who has pressed a button does not have it. So this asks first, on a
    connection of its own: 1 s for a Redis that hangs, milliseconds otherwise.

    Raises:
        BrokerDown: no answer within a second.
    """
    connection = quick_connection(BROKER_TIMEOUT)
    try:
        with connection:
            connection.ensure_connection(max_retries=0)
    except (OperationalError, *connection.connection_errors) as error:
        raise BrokerDown(DOWN) from error


def start_run(user, task, /, send=None, **arguments):
    """Send a task and record who asked for it.

    The record is there before the message: a task that starts at once finds it.

    Args:
        user (User): who asked.
        task (celery.Task): what to run; of a workflow, its first part.
        send (Callable[[str], None] | None): sends a workflow whose first part has the id that it
            gets. None sends the task.
        **arguments: the task's keyword arguments, all plain JSON values.

    Returns:
        Run: the record, with the task's id.

    Raises:
        BrokerDown: the broker does not answer; told within 3 s.
    """
    check_broker()
    run = Run.objects.create(
        task_id=uuid.uuid4(), task=task.name, arguments=arguments, started_by=user
    )
    try:
        if send:
            send(str(run.task_id))
        else:
            task.apply_async(kwargs=arguments, task_id=str(run.task_id))
    except OperationalError as error:
        run.delete()
        raise BrokerDown(DOWN) from error
    return run


def cancel_run(run, plan):
    """Stop a run that works, and keep one that waits from starting. Done twice, it is the same.

    Workers that are there now get the ids: one that waits is dropped when its turn comes, and the
    process of one that works gets SIGTERM. In the task that is a SystemExit, so ``finally`` and
    ``except BaseException`` tidy up, and the run ends as REVOKED. (SIGUSR1, the soft time limit,
    would end it as FAILURE.) Workers that start later find ``cancelled_at``, see
    `posts.tasks.cancelling`.

    Args:
        run (Run): what to cancel.
        plan (Plan): its parts.

    Raises:
        BrokerDown: the broker does not answer, so a task that works was not told. One that waits
            is cancelled all the same.
    """
    Run.objects.filter(pk=run.pk, cancelled_at=None).update(cancelled_at=timezone.now())
    try:
        check_broker()
    except BrokerDown as error:
        raise BrokerDown(UNHEARD) from error
    ids = [str(run.task_id), *plan.ids(run).values()]
    try:
        current_app.control.revoke(ids, terminate=True, signal="SIGTERM")
    except OperationalError as error:
        raise BrokerDown(UNHEARD) from error


@dataclass(frozen=True)
class Plan:
    """What a run consists of beside its first task.

    ``parts`` are names from which ids follow (see `part_id`). The run has ended when those in
    ``ends`` have; None stands for all. ``result_of`` is the part whose result is the run's, «» the
    first task. ``on_error`` is the part that is sent when another fails.
    """

    parts: tuple = ()
    ends: tuple | None = None
    result_of: str = ""
    on_error: str = ""

    def ids(self, run):
        """Return the parts' ids, a dict[str, str] by name, the error callback last."""
        names = [*self.parts, *([self.on_error] if self.on_error else [])]
        return {str(name): part_id(run.task_id, name) for name in names}


def stays_cancelled(task):
    """Whether a task is one that does not begin once its run is cancelled."""
    return getattr(task, "stays_cancelled", False)
