"""Reading how tasks go, from whichever results backend is set."""

import zlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from celery import current_app, signals, states
from django.utils import timezone
from django_celery_results.backends import DatabaseBackend

from .runs import Plan, stays_cancelled

PROGRESS = "PROGRESS"
RUNNING = {states.STARTED, PROGRESS, states.RETRY}


@dataclass
class Progress:
    """How a task goes: what the pages show.

    ``state`` is Celery's word for it. ``result`` is the return value of a task that succeeded,
    ``error`` names the exception of one that failed, and ``done`` and ``total`` count the steps
    of one that reports them. Times are None where they are not known: only the database knows when
    a task ``started`` (of a retried one, its last try).
    """

    state: str = states.PENDING
    name: str = ""
    worker: str = ""
    result: object = None
    error: str = ""
    traceback: str = ""
    done: int = 0
    total: int = 0
    retries: int = 0
    sent: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    parts: list = field(default_factory=list)
    on_error: object = None

    @property
    def finished(self):
        return self.state in states.READY_STATES

    @property
    def settled(self):
        """Whether nothing more will change, so that nobody need ask again."""
        handler = self.on_error
        awaited = self.state == states.FAILURE and handler and not handler.finished
        return self.finished and not (awaited and age_of(self.ended) < timedelta(seconds=5))

    @property
    def running(self):
        return self.state in RUNNING

    @property
    def percent(self):
        return 100 * self.done // self.total if self.total else 0

    @property
    def waited(self):
        """From the click to the worker; unknown of one that was tried again."""
        known = self.sent and self.started and not self.retries
        return max(self.started - self.sent, timedelta(0)) if known else None

    @property
    def ran(self):
        """At work until now, or until it ended."""
        if not self.started or not (self.state in (states.STARTED, PROGRESS) or self.ended):
            return None
        return max((self.ended if self.finished else timezone.now()) - self.started, timedelta(0))

    @property
    def took(self):
        """From the click to the result, waiting included."""
        known = self.sent and self.ended and self.finished
        return max(self.ended - self.sent, timedelta(0)) if known else None

    @property
    def version(self):
        """A short text that is another when something but time has changed."""
        facts = (self.state, self.worker, self.done, self.total, self.retries, self.settled)
        parts = [(part.state, part.worker) for part in self.everything[1:]]
        return f"{zlib.crc32(repr((facts, parts)).encode()):x}"

    @property
    def everything(self):
        """This and all parts, the error callback included."""
        return [self, *self.parts, *([self.on_error] if self.on_error else [])]

    @property
    def shown_parts(self):
        """The parts to show; an error callback only when it was sent."""
        return [part for part in self.everything[1:] if part is not self.on_error or part.begun]

    @property
    def begun(self):
        return self.state != states.PENDING


def age_of(moment):
    return timezone.now() - moment if moment else timedelta.max


def progress_of(run, plan=None):
    """Ask how a run goes. One look-up. Returns a Progress, see `read_progress`."""
    return read_progress([run], lambda run: plan or Plan())[0]


def read_progress(runs, plan_of):
    """Ask the results backend how runs go: one query in the database, else a look-up each task.

    PENDING also means that the backend has never heard of the task: no worker has taken it yet.

    Args:
        runs (Iterable[Run]): the runs.
        plan_of (Callable[[Run], Plan]): the parts of a run.

    Returns:
        list[Progress]: one for each run, in their order.
    """
    plans = [(run, plan_of(run)) for run in runs]
    ids = [
        task_id for run, plan in plans for task_id in (str(run.task_id), *plan.ids(run).values())
    ]
    metas = read_metas(ids)
    found = []
    for run, plan in plans:
        own = as_progress(metas[str(run.task_id)], run.short_name)
        parts = {name: as_progress(metas[i], name) for name, i in plan.ids(run).items()}
        found.append(combine(run, plan, own, parts))
    return found


def read_metas(ids):
    """Return what the results backend knows: {task id: Celery's dict for it}."""
    backend = current_app.backend
    if not isinstance(backend, DatabaseBackend):
        return {task_id: backend.get_task_meta(task_id) for task_id in ids}
    metas = {task_id: {"status": states.PENDING, "result": None} for task_id in ids}
    for row in backend.TaskModel.objects.filter(task_id__in=ids):
        metas[row.task_id] = backend.meta_from_decoded(
            {
                **(backend.decode_content(row, row.meta) or {}),
                "status": row.status,
                "result": backend.decode_content(row, row.result),
                "traceback": row.traceback,
                "worker": row.worker,
                "date_started": row.date_started,
                "date_done": row.date_done,
            }
        )
    return metas


def as_progress(meta, name):
    """Put what the results backend knows of one task into words.

    Args:
        meta (dict): from `read_metas`.
        name (str): the task's, without its module.

    Returns:
        Progress: without the times that the run alone knows.
    """
    state, result = meta["status"], meta["result"]
    progress = Progress(state, name, worker=meta.get("worker") or "")
    progress.retries = meta.get("retries") or 0
    progress.started = as_datetime(meta.get("date_started"))
    if state == states.STARTED:
        progress.worker = result["hostname"]
    elif state == PROGRESS:
        progress.done, progress.total = result["done"], result["total"]
    elif state == states.SUCCESS:
        progress.result = result
    elif state in states.EXCEPTION_STATES:
        progress.error = error_text(result)
        progress.traceback = meta.get("traceback") or ""
    if progress.finished:
        progress.ended = as_datetime(meta["date_done"])
    return progress


def error_text(error):
    """Say what was raised: «ValueError: …», or the name alone of one that says no more."""
    name, text = type(error).__name__, str(error)
    return name if not text or text.startswith(f"{name}(") else f"{name}: {text}"


def as_datetime(moment):
    """The database backend gives a datetime, the others its ISO form, or nothing."""
    return datetime.fromisoformat(moment) if isinstance(moment, str) else moment


def combine(run, plan, own, parts):
    """Say how a run goes as a whole.

    Args:
        run (Run): the run.
        plan (Plan): its parts.
        own (Progress): of its first task.
        parts (dict[str, Progress]): of its parts, by name.

    Returns:
        Progress: ``own``, with the state of the whole.
    """
    for part in (own, *parts.values()):
        part.sent = run.created_at
    own.on_error = parts.pop(plan.on_error, None)
    own.parts = list(parts.values())
    if not own.parts:
        task = current_app.tasks.get(run.task)
        if run.cancelled_at and own.state == states.PENDING and stays_cancelled(task):
            own.state, own.ended = states.REVOKED, run.cancelled_at
        return own
    whole = Progress(own.state, own.name, own.worker, retries=own.retries, sent=own.sent)
    whole.parts, whole.on_error, whole.started = [own, *own.parts], own.on_error, own.started
    everyone = whole.parts
    ends = everyone if plan.ends is None else [parts[name] for name in plan.ends]
    failed = [part for part in everyone if part.state == states.FAILURE]
    busy = any(part.running for part in everyone)
    over = not busy and (
        all(part.finished for part in ends)
        or own.state in states.EXCEPTION_STATES
        or run.cancelled_at is not None
    )
    if not over:
        begun = any(part.begun for part in everyone)
        whole.state = states.STARTED if begun else states.PENDING
        working = [part.worker for part in everyone if part.running]
        whole.worker = ", ".join(dict.fromkeys(working)) or own.worker
        return whole
    whole.ended = max((part.ended for part in everyone if part.ended), default=run.cancelled_at)
    whole.worker = ", ".join(dict.fromkeys(part.worker for part in everyone if part.worker))
    if all(part.finished for part in ends) and not failed:
        revoked = any(part.state == states.REVOKED for part in everyone)
        whole.state = states.REVOKED if revoked else states.SUCCESS
    else:
        whole.state = states.REVOKED if run.cancelled_at else states.FAILURE
    if whole.state == states.SUCCESS:
        whole.result = parts[plan.result_of].result if plan.result_of else own.result
    elif whole.state == states.FAILURE and failed:
        # A chord's body that could not run fails too: what failed first is what matters.
        cause = next((part for part in failed if part.started), failed[0])
        whole.error, whole.traceback = f"{cause.name}: {cause.error}", cause.traceback
    return whole


@signals.task_prerun.connect
def note_retries(task, **kwargs):
    """Have the number of retries stored with the result: the database has no column for it."""
    task.request.meta = {"retries": task.request.retries}
