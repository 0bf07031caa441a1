"""Calls that never end by themselves: their worker was killed."""

import logging
from datetime import timedelta

from billiard.exceptions import WorkerLostError
from celery import current_app, states
from celery.app.task import Context
from celery.utils.functional import maybe_list
from django.db.models.functions import Now

from .databases import still, tables
from .fields import Unreadable

logger = logging.getLogger(__name__)

# PROGRESS is the example in Celery's documentation:
# https://docs.celeryq.dev/en/stable/userguide/tasks.html#custom-states
RUNNING = (states.STARTED, "PROGRESS")

GRACE = timedelta(minutes=1)  # for a worker that is slow to kill, and for clocks that differ


def end_lost_calls(grace=GRACE):
    """Store FAILURE for each lost call: chords and errbacks hear of it. Several may run at once.

    Args:
        grace (timedelta): how much longer than its time limit a lost call was silent.

    Returns:
        list[TaskCall]: those that were ended, as they were before.
    """
    ended = []
    for calls in tables():
        for call, limit in find_lost(calls, grace):
            result = call.result
            rows = type(result).objects.using(calls.db).filter(pk=result.pk, status=result.status)
            # Whoever changes the row first goes on: this one, another, or the task itself.
            if not rows.filter(still("date_done", result.date_done)).update(date_done=Now()):
                continue
            error = WorkerLostError(
                f"Was running on {result.worker or 'a worker'}, and nothing was heard of it since "
                f"{result.date_done:%Y-%m-%d %H:%M:%S %Z}, though its time limit is {limit:g} s: "
                f"the worker was killed."
            )
            logger.error("%s: %s", call, error)
            current_app.backend.mark_as_failure(call.task_id, error, request=request_of(call))
            ended.append(call)
    return ended


def find_lost(calls, grace=GRACE):
    """Yield each lost call (TaskCall) and its hard time limit in seconds. `grace` as above.

    Left out are calls without one, which may run for ever, and tasks with ``acks_late``, which the
    broker delivers again, or that this process does not know.
    """
    silent = calls.filter(result__status__in=RUNNING, result__date_done__lt=Now() - grace)
    silent = silent.annotate(now=Now()).select_related("result").order_by("pk")
    for call in silent:
        task = current_app.tasks.get(call.name)
        if task is None or task.acks_late:
            continue
        soft, limit = (
            options_of(call).get(name) or getattr(task, name) or current_app.conf[f"task_{name}"]
            for name in ("soft_time_limit", "time_limit")
        )
        limit = limit and max(limit, soft or 0)  # the pool looks at the hard one after the soft one
        if limit and call.now - call.result.date_done > grace + timedelta(seconds=limit):
            yield call, limit


def request_of(call):
    """Return a call's request (Context), as far as an end outside of a worker needs it.

    Where the arguments are hidden, so are links and chord, and nobody is told.
    """
    known = {
        "id": call.task_id,
        "task": call.name,
        "hostname": call.result and call.result.worker,
        "ignore_result": False,  # the end is stored all the same
        "group": options_of(call).get("group_id"),
        "errbacks": maybe_list(options_of(call).get("link_error")),
        "delivery_info": {},
    }
    return Context({"root_id": call.task_id, **options_of(call), **known})


def options_of(call):
    return {} if isinstance(call.options, Unreadable) else call.options
