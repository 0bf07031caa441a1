"""Results in the Django database: one statement a store, answers in milliseconds."""

import time
from contextlib import suppress

from celery import states
from celery.backends.base import get_current_task
from celery.exceptions import TimeoutError
from celery.result import ResultSet, result_from_tuple
from celery.utils.log import get_logger
from celery.utils.serialization import b64decode
from celery.utils.time import maybe_timedelta
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, connections, router, transaction
from django.db.models.signals import post_save
from django.utils import timezone
from django_celery_results.backends import DatabaseBackend as StockBackend
from django_celery_results.models import ChordCounter
from kombu.exceptions import EncodeError
from kombu.serialization import loads

from . import conf
from .chords import Chords, members
from .cleanup import clean_up_calls
from .databases import aliases, tables
from .models import TaskCall
from .rows import FINISHED, delete_in_batches, in_batches, storable, store

logger = get_logger(__name__)

SHORTEST_PAUSE = 0.001  # seconds


class DatabaseBackend(Chords, StockBackend):
    """django-celery-results' backend, with its tables and interface.

    SUCCESS is final. FAILURE and REVOKED give way to another end alone: a message that is delivered
    again after a lost worker may still succeed. `forget()` a result to run a task again under its
    id. What a store does not know stays as it is; the traceback stays until SUCCESS clears it.

    ``date_done`` of a row is the time of its last change, as the table does not allow NULL; read
    back, it is there for finished tasks only. Django's ``post_save`` is sent for each state.

    Raises:
        ImproperlyConfigured: the database is neither PostgreSQL nor SQLite.
    """

    def __init__(self, app, **kwargs):
        super().__init__(app, **kwargs)
        connection = connections[self.alias]
        if not connection.features.supports_update_conflicts_with_target:
            raise ImproperlyConfigured(
                f"tasklog.backends.DatabaseBackend needs PostgreSQL or SQLite, and the database "
                f"{connection.alias!r} is {connection.display_name}. Name another with "
                f"TASKLOG['RESULTS_DATABASE'], or set CELERY_RESULT_BACKEND = 'django-db'."
            )

    @property
    def alias(self):
        """The database (str)."""
        return conf.get("RESULTS_DATABASE") or router.db_for_write(self.TaskModel)

    def decode_content(self, row, content):
        """Decode a part of a row by the serializer that stored it."""
        if content:
            if row.content_encoding == "binary":
                content = b64decode(content)
            kind = row.content_type or self.content_type
            return loads(content, kind, row.content_encoding, self.accept)

    def _rows(self, model, alias=None):
        return model._default_manager.using(alias or conf.get("RESULTS_DATABASE"))

    def exception_safe_to_retry(self, exc):
        """Whether to try again after an error, see CELERY_RESULT_BACKEND_ALWAYS_RETRY.

        Where a database is away, the next try opens new connections. A transaction is lost by then.
        """
        away = isinstance(exc, (OperationalError, InterfaceError))
        if not away or connections[self.alias].in_atomic_block:
            return False
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:
                connection.close()
        return True

    # --- Storing ----------------------------------------------------------------------------------

    def _store_result(self, task_id, result, status, traceback=None, request=None, using=None):
        """Store a state, for `store_result`, which retries; `using` is a database alias."""
        if request is None:  # the task itself may be at work; another's request says nothing
            current = getattr(get_current_task(), "request", None)
            request = current if current and current.id == task_id else None
        values = self._encode_result(result, request, task_id)
        values |= {"status": status, "date_done": timezone.now()}
        if status == states.STARTED:
            values["date_started"] = values["date_done"]
        if request is not None:
            meta = self._get_meta_from_request(request)
            children = self.current_task_children(request)
            values["meta"] = self._encode_anyhow({**meta, "children": children})
        known = self._get_extended_properties(request, traceback)
        values |= {name: value for name, value in known.items() if value is not None}
        if status == states.SUCCESS:
            values["traceback"] = None
        self._write(using or self.alias, task_id, storable(self.TaskModel, values))
        return values["result"]

    def _encoded(self, data):
        names = ("content_type", "content_encoding", "result")
        return dict(zip(names, self.encode_content(data), strict=True))

    def _encode_result(self, result, request, task_id):
        try:
            return self._encoded(result)
        except EncodeError as error:
            if conf.get("FORCE_JSON"):
                return self._encoded({"value": str(result), "forced_json": True})
            raise EncodeError(
                f"{getattr(request, 'task', None) or task_id} gave a {type(result).__name__} that "
                f"{self.serializer} cannot carry: {error}. Return plain values, or set "
                f"TASKLOG['FORCE_JSON'] to keep its text."
            ) from error

    def _encode_anyhow(self, value):
        """Encode what is told about a task, or else its repr."""
        try:
            return self.encode_content(value)[2]
        except EncodeError:
            known = repr(value)
            if isinstance(value, dict):
                known = {k: v if k == "children" else repr(v) for k, v in value.items()}
            return self.encode_content(known)[2]

    def _get_extended_properties(self, request, traceback):
        """What a request knows of its task, with CELERY_RESULT_EXTENDED; the traceback always."""
        known = {"traceback": traceback}
        if request and self.app.conf.result_extended:
            known["task_name"] = getattr(request, "task", None)
            known["periodic_task_name"] = getattr(request, "periodic_task_name", None)
            known["worker"] = getattr(request, "hostname", None)
            for name in ("args", "kwargs"):
                value = getattr(request, f"{name}repr", None)  # message protocol 1 has none
                value = getattr(request, name, None) if value is None else value
                if value is not None:
                    known[f"task_{name}"] = self._encode_anyhow(value)
        return known

    def _write(self, alias, task_id, values):
        """Write a row unless that would go backwards, and tell Django's signal."""
        listened = post_save.has_listeners(self.TaskModel)
        rows = self._rows(self.TaskModel, alias).filter(task_id=task_id) if listened else None
        created = listened and not rows.exists()
        for other in aliases()[1:]:  # where a call is, its result is too
            if other != alias and TaskCall.objects.using(other).filter(task_id=task_id).exists():
                store(self.TaskModel, other, task_id, values)
        if self.always_retry:  # which replaces a dead connection: ask none first
            connections[alias].health_check_done = True
        if not store(self.TaskModel, alias, task_id, values):
            logger.info("%s of %s came after its end", values["status"], task_id)
        elif listened:
            post_save.send(
                sender=self.TaskModel,
                instance=rows.get(),
                created=created,
                update_fields=None,
                raw=False,
                using=alias,
            )

    def _forget(self, task_id):
        for alias in {self.alias, *aliases()[1:]}:
            self._rows(self.TaskModel, alias).filter(task_id=task_id).delete()

    # --- Reading ----------------------------------------------------------------------------------

    def _get_task_meta_for(self, task_id):
        row = self.TaskModel(task_id=task_id)
        with suppress(self.TaskModel.DoesNotExist):
            row = self._rows(self.TaskModel).get(task_id=task_id)
        return self._meta_of(row)

    def _meta_of(self, row):
        """What AsyncResult shows of a row, under Celery's names and under those of the table."""
        meta = row.as_dict()
        for name in ("task_args", "task_kwargs"):
            with suppress(Exception):  # a plain repr, as old versions stored it
                meta[name] = self.decode_content(row, meta[name])
        meta |= {"name": row.task_name, "args": meta["task_args"], "kwargs": meta["task_kwargs"]}
        meta |= self.decode_content(row, row.meta) or {}
        meta["result"] = self.decode_content(row, row.result)
        if row.status not in FINISHED:
            meta["date_done"] = None
        return self.meta_from_decoded(meta)

    def finished(self, task_ids, alias=None):
        """Return {task id: what is known} of those that are finished."""
        found = {}
        rows = self._rows(self.TaskModel, alias)
        for batch in in_batches(task_ids):
            for row in rows.filter(task_id__in=batch, status__in=FINISHED).order_by():
                found[row.task_id] = self._meta_of(row)
        return found

    supports_native_join = True  # GroupResult.get() calls get_many()

    def get_many(
        self,
        task_ids,
        timeout=None,
        interval=0.5,
        no_ack=True,
        on_message=None,
        on_interval=None,
        max_iterations=None,
    ):
        """Wait until tasks are finished, with one statement a look.

        Each pause is a quarter of the time waited, a millisecond at least, `interval` seconds at
        most. Arguments as for Celery's own, in seconds.

        Yields:
            tuple[str, dict]: task ids and what is known, as they finish.

        Raises:
            celery.exceptions.TimeoutError: the time is over.
            django.db.transaction.TransactionManagementError: inside the transaction that sends the
                call, or any on SQLite: the task could never end.
        """
        waiting, began, looks = set(task_ids), time.monotonic(), 0
        while True:
            for task_id, meta in self._ensure_retryable(self.finished, waiting).items():
                waiting.discard(task_id)
                if on_message:
                    on_message(meta)
                yield task_id, meta
            looks += 1
            if not waiting or looks == max_iterations:
                return
            if on_interval:
                on_interval()
            waited = time.monotonic() - began
            if timeout is not None and waited >= timeout:
                raise TimeoutError(f"Not finished after {timeout} s.")
            if looks == 1:
                refuse_to_wait(waiting)
            pause = max(SHORTEST_PAUSE, waited / 4)
            time.sleep(min(pause, interval, pause if timeout is None else timeout - waited))

    def iter_native(self, result, **options):
        """Wait for the members of a ResultSet, and of nested groups, where Celery has no timeout.

        Yields as Celery does, arguments as `get_many`.
        """
        own = {part.id for part in result.results}
        for task_id, meta in self.get_many(members(result), **options):
            if task_id in own:
                yield task_id, meta
        for part in result.results:
            if isinstance(part, ResultSet):
                yield part.id, part.results

    def wait_for(self, task_id, timeout=None, interval=0.5, no_ack=True, on_interval=None):
        """Wait as `get_many` does, for one task: what `AsyncResult.get()` calls. Returns a dict."""
        self._ensure_not_eager()
        many = self.get_many([task_id], timeout, interval, on_interval=on_interval)
        return next(many)[1]

    # --- Groups -----------------------------------------------------------------------------------

    def _save_group(self, group_id, group_result):
        values = self._encoded(group_result.as_tuple())
        self._rows(self.GroupModel).update_or_create(group_id=group_id, defaults=values)
        return group_result

    def _restore_group(self, group_id):
        row = self._rows(self.GroupModel).filter(group_id=group_id).first()
        if row:
            result = result_from_tuple(self.decode_content(row, row.result), app=self.app)
            return {**row.as_dict(), "result": result}

    def _delete_group(self, group_id):
        self._rows(self.GroupModel).filter(group_id=group_id).delete()

    # --- Cleaning up ------------------------------------------------------------------------------

    def cleanup(self):
        """Delete what is older than CELERY_RESULT_EXPIRES, in batches.

        Returns:
            dict[str, int] | None: how many results of finished tasks, calls, saved groups, and
            counters of chords that never end. None where results do not expire.
        """
        if not self.expires:
            return None
        before = timezone.now() - maybe_timedelta(self.expires)
        groups = self._rows(self.GroupModel, self.alias).filter(date_done__lt=before)
        expired = self._rows(self.TaskModel, self.alias).filter(
            status__in=FINISHED, date_done__lt=before
        )
        chords = {
            counter
            for counter in ChordCounter.objects.using(self.alias)
            for batch in in_batches(members(counter.group_result(self.app)))
            if expired.filter(task_id__in=batch).exists()
        }
        for counter in chords:
            logger.error("The chord %s never ends: a result in it has expired.", counter.group_id)
        return {
            "chords": sum(counter.delete()[0] for counter in chords),
            "results": delete_in_batches(expired.order_by("date_done")),
            "groups": delete_in_batches(groups.order_by("date_done")),
            "calls": clean_up_calls(maybe_timedelta(self.expires)),
        }


def refuse_to_wait(task_ids):
    """Raise TransactionManagementError in a transaction that keeps tasks from ever ending."""
    reason = None
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block and connection.vendor == "sqlite":
            reason = "The task could never store its result, as nobody else can write to SQLite"
    for calls in tables():
        unsent = calls.unsent().filter(task_id__in=task_ids)
        if connections[calls.db].in_atomic_block and (call := unsent.first()):
            reason = f"{call} is sent when this transaction is committed"
    if reason:
        raise transaction.TransactionManagementError(f"{reason}. Wait after the transaction.")
