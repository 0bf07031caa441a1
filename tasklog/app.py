"""The Celery application through which every call passes."""

import logging
import threading
import time

import celery
import django
from celery.app.control import Control as StockControl
from celery.contrib.django.task import DjangoTask
from celery.utils import uuid
from celery.utils.functional import maybe_list
from django.apps import apps
from django.core.checks import Error, register
from django.db import InterfaceError, connections, transaction
from django.db import OperationalError as DatabaseError
from django.db.models.functions import Now
from kombu.exceptions import OperationalError
from kombu.utils.functional import retry_over_time

from . import conf
from .record import record

logger = logging.getLogger(__name__)

SENT_LATER = "The broker is away: %s is sent when it is back."
PAUSE = 5  # seconds without a try after the broker was away: each would wait for it


class LoggedTask(DjangoTask):
    """A base for tasks that want all of tasklog: ``@shared_task(base=LoggedTask)``.

    For one thing alone: ``@shared_task(outbox=True)``.
    """

    track = outbox = schedule_eta = True


class Control(StockControl):
    """Remote control that knows of the calls which no worker has heard of yet."""

    def revoke(self, task_id, *args, **kwargs):
        """Revoke tasks, as Celery's own does. Those that wait in the table are REVOKED at once."""
        setup_django()
        from .dispatcher import withdraw
        from .lost import request_of

        ids, reason = maybe_list(task_id), "revoked before it was sent"
        withdrawn = withdraw(ids)
        for call in withdrawn:  # with its request, so that its chord hears of it
            self.app.backend.mark_as_revoked(call.task_id, reason, request_of(call))
        unknown = {call.task_id for call in withdrawn if call.eta}
        if sent := [task_id for task_id in ids if task_id not in unknown]:
            return super().revoke(sent, *args, **kwargs)


class Celery(celery.Celery):
    """Celery's application, which writes calls into the database as ``settings.TASKLOG`` says.

    A task can choose for itself (``@shared_task(track=True)``), and so can a call
    (``apply_async(outbox=False)``), which has the last word.
    """

    control_cls = "tasklog.app:Control"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._sending = threading.local()
        self._away_until = 0  # by the monotonic clock
        self.on_after_finalize.connect(self._add_schedules)

    def send_task(self, name, args=None, kwargs=None, countdown=None, eta=None, **options):
        """Send a task by name. All calls pass here: `delay`, `apply_async`, canvas and beat.

        Takes what Celery's own does, and ``track``, ``outbox`` and ``schedule_eta`` (bool | None).
        `TaskCall.retry` adds ``retry_of``, the call that is made again.

        Returns:
            AsyncResult: also of a call that is sent later.

        Raises:
            kombu.exceptions.EncodeError: an argument is nothing that JSON can carry.
            kombu.exceptions.OperationalError: the broker is away, and there is no outbox.
        """
        retry_of = options.pop("retry_of", None)
        asked = [options.pop(choice, None) for choice in ("track", "outbox", "schedule_eta")]
        when = {"countdown": countdown, "eta": eta}
        # A task that retries or replaces itself is still the same call. With `chord_unlock` Celery
        # asks itself whether a chord has ended.
        again = options.get("retries") or options.get("replaced_task_nesting")
        if again or name == "celery.chord_unlock":
            return super().send_task(name, args, kwargs, **when, **options)
        task = options.get("task_type") or self._tasks.get(name)
        if options.get("ignore_result") is None:
            options["ignore_result"] = getattr(task, "ignore_result", False)
        track, outbox, schedule_eta = choose(asked, task, options["ignore_result"])
        waits = bool(schedule_eta and (eta or countdown))
        if not (track or outbox or waits or retry_of):
            return super().send_task(name, args, kwargs, **when, **options)

        setup_django()
        from .databases import for_a_call

        alias, in_transaction = for_a_call(retry_of and retry_of._state.db)
        options["task_id"] = options.get("task_id") or uuid()
        call, message = record(self, name, args, kwargs, options=options, waits=waits, **when)
        call.retry_of = retry_of
        if waits and call.replayable:
            self._store(call, alias)
            return self._result(call, options)
        if outbox and in_transaction:
            self._store(call, alias)
            self._send_on_commit(call, message, alias)
            return self._result(call, options)
        later = outbox and call.replayable
        if later and self._is_away():
            self._store(call, alias)
            return self._result(call, options)
        if track or retry_of:
            call.sent_at = Now()
            self._store(call, alias)
        try:
            return super().send_task(name, args, kwargs, **when, **options)
        except OperationalError:
            # Without an outbox the caller decides what follows.
            if not later:
                raise
            call.sent_at = None
            self._store(call, alias)
            self._send_later(call)
            return self._result(call, options)

    def send_call(self, call, args, kwargs, options, **extra):
        """Send a call that was written down, under its own id.

        Args:
            call (TaskCall): says the task and the id.
            args (list), kwargs (dict), options (dict): as it was made. The row may hide them.
            **extra: options for this one time, as the ``producer``.

        Raises:
            kombu.exceptions.OperationalError: the broker is away.
        """
        options = {**options, **extra, "task_id": call.task_id, "add_to_parent": False}
        self._sending.now = True
        try:
            super().send_task(call.name, args, kwargs, **options)
        finally:
            self._sending.now = False

    @property
    def current_worker_task(self):
        """The task that runs here. Calls that it sends for others are not its children."""
        return None if getattr(self._sending, "now", False) else super().current_worker_task

    def _store(self, call, alias):
        """Write a call down. In a worker, a database that is away is waited for, about a minute.

        A worker sends the next task of a chain before it stores a result: what fails there fails no
        task, and nobody would make it good.
        """
        connection = connections[alias]
        if connection.in_atomic_block or not super().current_worker_task:
            call.store(alias)
            return

        def wait(error, intervals, retries):
            connection.close()
            logger.warning("%s is not written down yet: %s", call, error)
            return next(intervals)

        away = (DatabaseError, InterfaceError)
        retry_over_time(call.store, away, [alias], errback=wait, max_retries=20, interval_max=4)

    def _send_on_commit(self, call, message, alias):
        def send_call():
            if call.replayable and self._is_away():
                return
            try:
                self.send_call(call, *message)
            except OperationalError:
                if not call.replayable:
                    raise
                self._send_later(call)
            else:
                call.mark_sent(alias)

        # Robust: what fails is logged, and fails no request that is done. But nobody else could
        # send a call with hidden arguments.
        transaction.on_commit(send_call, using=alias, robust=call.replayable)

    def _is_away(self):
        return time.monotonic() < self._away_until

    def _send_later(self, call):
        """Leave a call to the dispatcher, and those of the next seconds too."""
        self._away_until = time.monotonic() + PAUSE
        logger.warning(SENT_LATER, call)

    def _result(self, call, options):
        """Return the AsyncResult of a call that is sent later, as send_task() would."""
        result = (options.get("result_cls") or self.AsyncResult)(call.task_id)
        result.ignored = options["ignore_result"]
        parent = self.current_worker_task
        if parent and options.get("add_to_parent", True):
            parent.add_trail(result)
        return result

    def _add_schedules(self, sender, **kwargs):
        """Let beat send tasklog's own tasks, whatever the settings: a single call may need them."""
        for name, every in (
            ("tasklog.send_due_calls", conf.get("SEND_EVERY")),
            ("tasklog.end_lost_calls", conf.get("END_LOST_EVERY")),
        ):
            if every:
                self.add_periodic_task(every, self.signature(name), name=name)


def choose(asked, task, ignore_result):
    """Yield whether to track, to use the outbox, and to keep ETAs: as asked, as the task, the site.

    A result that nobody wants is tracked only where call or task ask for it.
    """
    for choice, wanted in zip(("track", "outbox", "schedule_eta"), asked, strict=True):
        if wanted is None:
            wanted = getattr(task, choice, None)
        if wanted is None:
            wanted = conf.get(choice.upper()) and not (choice == "track" and ignore_result)
        yield wanted


@register("tasklog")
def check_installed(**kwargs):
    """That the app is installed. Only then are its other checks there."""
    if not apps.is_installed("tasklog"):
        yield Error(
            "Calls pass through tasklog, and it has no table.",
            hint='Add "tasklog" to INSTALLED_APPS, and migrate.',
            id="tasklog.E005",
        )


def setup_django():
    """Set Django up where nobody has: `celery call` does not."""
    if not apps.ready:
        django.setup()
