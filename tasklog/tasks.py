"""The tasks that beat sends."""

from celery import current_app, shared_task
from celery.utils.time import maybe_timedelta

from . import cleanup, conf, dispatcher, lost


@shared_task(
    name="tasklog.send_due_calls",
    ignore_result=True,
    track=False,
    outbox=False,
    schedule_eta=False,
    # An hour: a night without workers leaves some hundred and no thousands. Not SEND_EVERY: behind
    # a queue that is longer than that, each would expire, and nothing would be sent any more. Here
    # and not in beat's entry: django-celery-beat does not store an entry's `expires`.
    expires=3600,
)
def send_due_calls():
    """Send the calls whose ETA has come, and those that their process left unsent.

    Beat sends it every SEND_EVERY seconds. It goes on for as long at most, so that many due calls
    do not hold all processes of a worker. Safe to run twice, and at the same time: each call is
    claimed in the database. Acknowledged early: the next run does what this one left.

    Raises:
        kombu.exceptions.OperationalError: the broker went away.
    """
    return dispatcher.send_due_calls(conf.get("SEND_EVERY"))


@shared_task(name="tasklog.clean_up_calls")
def clean_up_calls():
    """Delete the calls that ended longer ago than CELERY_RESULT_EXPIRES, with their results.

    None where results do not expire. Idempotent. Returns how many they were.
    """
    expires = current_app.conf.result_expires
    return cleanup.clean_up_calls(maybe_timedelta(expires)) if expires else 0


@shared_task(
    name="tasklog.end_lost_calls", ignore_result=True, track=False, outbox=False, expires=3600
)
def end_lost_calls():
    """Store FAILURE for calls whose worker was killed while it ran them, see tasklog/lost.py.

    Beat sends it every END_LOST_EVERY seconds. Safe to run twice, and at the same time. Returns how
    many they were.
    """
    return len(lost.end_lost_calls())
