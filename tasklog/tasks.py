"""The tasks that beat sends. All are safe to run twice, and at the same time."""

from celery import current_app, shared_task, states
from celery.utils.time import maybe_timedelta

from . import cleanup, conf, dispatcher, lost

QUIET = {
    "ignore_result": True,
    "track": False,
    "outbox": False,
    "schedule_eta": False,
    # Seconds: a night without workers leaves few behind. Not in beat's entry:
    # django-celery-beat would drop it.
    "expires": 3600,
}


@shared_task(name="tasklog.send_due_calls", **QUIET)
def send_due_calls():
    """Do `dispatcher.send_due_calls` for SEND_EVERY seconds at most.

    So many due calls do not hold all processes of a worker. Returns how many were sent.
    """
    return dispatcher.send_due_calls(conf.get("SEND_EVERY"))


@shared_task(name="tasklog.clean_up_calls")
def clean_up_calls(seconds=None, ended_as=states.READY_STATES):
    """Delete calls that ended that long ago, by default CELERY_RESULT_EXPIRES. Returns how many."""
    age = maybe_timedelta(seconds or current_app.conf.result_expires)
    return cleanup.clean_up_calls(age, ended_as) if age else 0


@shared_task(name="tasklog.end_lost_calls", **QUIET)
def end_lost_calls():
    """Store FAILURE for calls whose worker was killed. Returns how many."""
    return len(lost.end_lost_calls())
