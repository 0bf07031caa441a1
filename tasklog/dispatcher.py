"""Sending what waits in the table: calls whose ETA has come, and those left unsent.

Any number of dispatchers may run: each claims its calls before it sends them.
"""

import logging
import time
from datetime import timedelta

from billiard.exceptions import SoftTimeLimitExceeded
from celery import current_app
from celery.events import EventDispatcher
from django.db import connections, transaction
from django.db.models import Exists, Q
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from . import conf
from .databases import tables
from .models import RESULT, TaskCall

logger = logging.getLogger(__name__)


def send_due_calls(seconds=None):
    """Send what is due, until nothing is, or the time is over.

    A scheduled call is sent at most once: one that is cut off between claim and note stays visible.
    One that its process left unsent is sent at least once, under the same id.

    Args:
        seconds (float | None): how long to go on. None: as long as it takes.

    Returns:
        int: how many calls were sent.

    Raises:
        kombu.exceptions.OperationalError: the broker is away. What was not tried stays due.
    """
    deadline = time.monotonic() + seconds if seconds else float("inf")
    sent = 0
    for calls in tables():
        for queryset, once in ((calls.due(), True), (find_abandoned(calls), False)):
            if not queryset.exists():
                continue
            # With the broker away nothing is claimed. Not from the pool: one there may be dead.
            with current_app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1)
                producer = current_app.amqp.Producer(connection, auto_declare=False)
                events = Events(connection, app=current_app, buffer_group={"task"})
                while time.monotonic() < deadline and (claimed := claim(queryset)):
                    sent += send(claimed, calls, once, producer=producer, event_dispatcher=events)
                    events.flush()
    return sent


class Events(EventDispatcher):
    """Sends the events of calls in one message, as workers do: they cost as much as calls."""

    def publish(self, type, fields, producer, **options):
        self.send(type, **fields)


def find_abandoned(calls):
    """Return the calls (TaskCallQuerySet) that their process had time to send, the oldest first.

    Counted from when a dispatcher first saw the call: its commit is noted nowhere. A call with a
    result was sent.
    """
    unsent = calls.unsent().exclude(args=None)
    unsent.filter(claimed_at=None).update(claimed_at=Now())
    given_up = Now() - timedelta(seconds=conf.get("RESEND_AFTER"))
    abandoned = unsent.filter(claimed_at__lt=given_up).order_by("pk")
    if abandoned.exists():
        abandoned.filter(Exists(RESULT)).update(sent_at=Now())
    return abandoned


def claim(queryset):
    """Take the first BATCH_SIZE calls (list[TaskCall]), so that no other dispatcher does.

    A call has to be out of `queryset` (TaskCallQuerySet) once it is taken.
    """
    size, alias = conf.get("BATCH_SIZE"), queryset.db
    if connections[alias].features.has_select_for_update_skip_locked:
        with transaction.atomic(using=alias):
            calls = list(queryset.select_for_update(skip_locked=True)[:size])
            taken = TaskCall.objects.using(alias).filter(pk__in=[call.pk for call in calls])
            taken.update(claimed_at=Now())
        return calls
    while candidates := list(queryset[:size]):
        with transaction.atomic(using=alias):
            claimed = [
                call
                for call in candidates
                if queryset.order_by().filter(pk=call.pk).update(claimed_at=Now())
            ]
        if claimed:  # else others were faster
            return claimed
    return []


def send(claimed, calls, once, **through):
    """Send claimed calls, and note which were sent. One that cannot be sent is logged, and stays.

    Args:
        claimed (list[TaskCall]): which to send.
        calls (TaskCallQuerySet): all calls of their database.
        once (bool): rather not at all than twice.
        **through: options that all share, as the connected ``producer``.

    Returns:
        int: how many were sent.

    Raises:
        kombu.exceptions.OperationalError, billiard.exceptions.SoftTimeLimitExceeded: the broker
            went away, or it took too long. What was not tried, or was refused (a Redis without
            memory), is given back. Of another in the middle nobody knows: it stays claimed if
            `once`.
    """
    sent = []
    enough = time.monotonic() + conf.get("RESEND_AFTER") / 2
    try:
        for tried, call in enumerate(claimed, 1):
            if sent and not once and time.monotonic() > enough:
                break  # others may take the rest soon
            try:
                options = {**call.options, "retry": False} if once else call.options
                current_app.send_call(call, call.args, call.kwargs, options, **through)
            except (OperationalError, SoftTimeLimitExceeded) as error:
                refused = isinstance(error.__cause__, current_app.connection().channel_errors)
                back = claimed[tried - 1 if refused or not once else tried :]
                calls.filter(pk__in=[call.pk for call in back]).update(claimed_at=None)
                raise
            except Exception:
                logger.exception("%s cannot be sent.", call)
            else:
                sent.append(call.pk)
    finally:
        calls.filter(pk__in=sent).update(sent_at=Now())
    return len(sent)


def withdraw(task_ids):
    """Keep calls that still wait from being sent. Takes ids (list[str]), returns the calls."""
    waiting = Q(sent_at=None) & (Q(claimed_at=None) | Q(eta=None))
    return [
        call
        for calls in tables()
        for call in calls.filter(waiting, task_id__in=task_ids)
        if calls.filter(waiting, pk=call.pk).update(claimed_at=Now(), sent_at=Now())
    ]
