"""The Celery application."""

import logging
import threading
import time
from functools import partial

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

PAUSE = 5  # seconds without a try after the broker was away: each would wait for it


class LoggedTask(DjangoTask):
    """A base for tasks that want all of tasklog: ``@shared_task(base=LoggedTask)``."""

    track = outbox = schedule_eta = True


class Control(StockControl):
    """Remote control that knows calls before workers do."""

    def revoke(self, task_id, *args, **kwargs):
        """Revoke tasks as Celery does. Those that wait in the table are REVOKED at once."""
        setup_django()
        from .dispatcher import withdraw
        from .lost import request_of

        ids, reason = maybe_list(task_id), "revoked before it was sent"
        for call in withdraw(ids):  # whose chord hears of it
            self.app.backend.mark_as_revoked(call.task_id, reason, request_of(call))
            if call.eta:
                ids = [other for other in ids if other != call.task_id]
        if ids:
            return super().revoke(ids, *args, **kwargs)


class Celery(celery.Celery):
    """Celery's application, which writes calls into the database.

    ``settings.TASKLOG`` says which, before it the task (``@shared_task(track=True)``), and before
    both the call (``apply_async(outbox=False)``).
    """

    control_cls = "tasklog.app:Control"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._sending = threading.local()
        self._away_until = 0
        self.on_after_finalize.connect(self._add_schedules)

    def send_task(self, name, args=None, kwargs=None, countdown=None, eta=None, **options):
        """Send a task by name. All calls pass here: `delay`, `apply_async`, canvas and beat.

        Takes what Celery's own does, and ``track``, ``outbox`` and ``schedule_eta`` (bool | None).
        `TaskCall.retry` adds ``retry_of``, the call that is made again.

        Returns:
            AsyncResult: also of a call that is sent later.

        Raises:
            kombu.exceptions.EncodeError: JSON cannot carry an argument.
            kombu.exceptions.OperationalError: the broker is away, and there is no outbox.
        """
        retry_of = options.pop("retry_of", None)
        choices = ("track", "outbox", "schedule_eta")
        asked = {choice: options.pop(choice, None) for choice in choices}
        when = {"countdown": countdown, "eta": eta}
        # No new call: a task retries or replaces itself, or Celery asks whether a chord has ended.
        send = partial(super().send_task, name, args, kwargs, **when)
        again = options.get("retries") or options.get("replaced_task_nesting")
        if again or name == "celery.chord_unlock":
            return send(**options)
        task = options.get("task_type") or self._tasks.get(name)
        if options.get("ignore_result") is None:
            options["ignore_result"] = getattr(task, "ignore_result", False)
        track, outbox, schedule_eta = choose(asked, task, options["ignore_result"])
        waits = bool(schedule_eta and (eta or countdown))
        if not (track or outbox or waits or retry_of):
            return send(**options)

        setup_django()
        from .databases import for_a_call

        alias, in_transaction = for_a_call(retry_of and retry_of._state.db)
        options["task_id"] = options.get("task_id") or uuid()
        call, message = record(self, name, args, kwargs, options=options, waits=waits, **when)
        call.retry_of = retry_of
        kept, later = waits and call.replayable, outbox and call.replayable
        on_commit = outbox and in_transaction and not kept
        if kept or on_commit or (later and self._is_away()):
            self._store(call, alias)
            if on_commit:
                self._send_on_commit(call, message, alias)
            return self._result(call, options)
        if track or retry_of:
            call.sent_at = Now()
            self._store(call, alias)
        try:
            return send(**options)
        except OperationalError:
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
        """Write a call down. A worker waits about a minute for a database that is away.

        It sends the next task of a chain before it stores a result: what fails there fails no task.
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
                call.mark_sent(alias)
            except OperationalError:
                if not call.replayable:
                    raise
                self._send_later(call)

        # Robust: no request that is done fails, unless nobody else can send the call.
        transaction.on_commit(send_call, using=alias, robust=call.replayable)

    def _is_away(self):
        return time.monotonic() < self._away_until

    def _send_later(self, call):
        """Leave a call and those of the next seconds to the dispatcher."""
        self._away_until = time.monotonic() + PAUSE
        logger.warning("The broker is away: %s is sent when it is back.", call)

    def _result(self, call, options):
        """Return the AsyncResult that Celery's send_task() would."""
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

    The site's TRACK leaves out calls whose result is ignored.
    """
    for choice, wanted in asked.items():
        if wanted is None:
            wanted = getattr(task, choice, None)
        if wanted is None:
            wanted = conf.get(choice.upper()) and not (choice == "track" and ignore_result)
        yield wanted


@register("tasklog")
def check_installed(**kwargs):
    """That the app is installed: only then are its other checks."""
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
