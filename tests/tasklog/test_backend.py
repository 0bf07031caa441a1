"""What tasklog's results backend does better than the one it extends."""

import json
import threading
import time
from datetime import timedelta

import pytest
from celery import current_app, states, uuid
from celery._state import _task_stack
from celery.app.task import Context
from celery.exceptions import TimeoutError
from celery.result import AsyncResult, GroupResult
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.db.models.signals import post_save
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_results.models import ChordCounter, TaskResult
from django_celery_results.models import GroupResult as SavedGroup
from kombu.exceptions import EncodeError

from tasklog import rows
from tasklog.backends import DatabaseBackend

pytestmark = pytest.mark.django_db


@pytest.fixture
def request_of():
    """A request as a worker has it: ``request_of(task_id)``."""

    def make(task_id, children=None, **more):
        request = Context(
            id=task_id,
            task="posts.tasks.basics.add",
            argsrepr="(1, 2)",
            kwargsrepr="{}",
            hostname="w@here",
            periodic_task_name="every day",
            **more,
        )
        request._children = children
        return request

    return make


@pytest.fixture
def statements():
    """What the database is asked in a `with` block, BEGIN and COMMIT included."""
    return lambda: CaptureQueriesContext(connection)


def stored(task_id):
    return TaskResult.objects.get(task_id=task_id)


# --- One statement a store ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("state", [states.STARTED, states.SUCCESS, states.FAILURE, "PROGRESS"])
def test_a_state_is_stored_in_one_statement(backend, request_of, statements, state):
    task_id = uuid()
    request = request_of(task_id)
    with statements() as first:
        backend.store_result(task_id, {}, states.STARTED, request=request)
    result = ValueError("no") if state == states.FAILURE else {}
    with statements() as second:
        backend.store_result(task_id, result, state, request=request)
    assert len(first) == 1, first.captured_queries
    assert len(second) == 1, second.captured_queries
    assert stored(task_id).status == state


@pytest.mark.django_db(transaction=True)
def test_a_state_takes_no_number_of_the_id_sequence_from_the_next_row(backend):
    """The table's ids end at 2³¹, and an upsert uses one up on PostgreSQL even if it updates."""
    ids = [uuid(), uuid()]
    for task_id in ids:
        backend.store_result(task_id, {}, states.STARTED)
        backend.mark_as_done(task_id, 1)
    first, second = (stored(task_id).pk for task_id in ids)
    assert second == first + 1


@pytest.mark.django_db(transaction=True)
def test_two_that_store_at_once(backend):
    """Neither fails, and the better state stays."""
    task_id = uuid()
    barrier = threading.Barrier(4)
    errors = []

    def store(state):
        try:
            barrier.wait(10)
            for _ in range(20):
                backend.store_result(task_id, state, state)
        except Exception as error:
            errors.append(error)
        finally:
            connections.close_all()

    four = [states.STARTED, "PROGRESS", states.SUCCESS, states.RETRY]
    threads = [threading.Thread(target=store, args=[state]) for state in four]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert stored(task_id).status == states.SUCCESS


# --- Nothing known gets lost ----------------------------------------------------------------------


@pytest.mark.parametrize("before", sorted(states.READY_STATES))
@pytest.mark.parametrize("after", [*sorted(states.ALL_STATES), "PROGRESS"])
def test_no_state_goes_backwards(backend, before, after):
    """SUCCESS is final. FAILURE and REVOKED give way to another end alone."""
    task_id = uuid()
    error = ValueError("as it was")
    backend.store_result(task_id, "as it was" if before == states.SUCCESS else error, before)
    backend.store_result(task_id, KeyError() if after in states.EXCEPTION_STATES else "new", after)
    replaced = before != states.SUCCESS and after in states.READY_STATES
    row = stored(task_id)
    assert row.status == (after if replaced else before)
    assert ("as it was" in row.result) != replaced


@pytest.mark.parametrize("tracked", [True, False])
def test_a_late_start_changes_nothing(backend, configure, tracked):
    """A message that is delivered again, with and without a row for STARTED."""
    configure(task_track_started=tracked)
    task_id = uuid()
    backend.mark_as_done(task_id, 42)
    before = TaskResult.objects.filter(pk=stored(task_id).pk).values().get()
    backend.mark_as_started(task_id, pid=1)
    backend.mark_as_retry(task_id, ValueError())
    assert TaskResult.objects.filter(task_id=task_id).values().get() == before


def test_a_lost_worker_and_then_a_success(backend):
    task_id = uuid()
    backend.mark_as_failure(task_id, RuntimeError("Worker exited prematurely"), "Traceback")
    backend.mark_as_started(task_id)
    assert AsyncResult(task_id, backend=backend).state == states.FAILURE
    backend.mark_as_done(task_id, 42)
    result = AsyncResult(task_id, backend=backend)
    assert (result.state, result.result, result.traceback) == (states.SUCCESS, 42, None)


def test_a_forgotten_result_starts_from_the_beginning(backend):
    task_id = uuid()
    backend.mark_as_done(task_id, 42)
    backend.forget(task_id)
    backend.mark_as_started(task_id)
    assert stored(task_id).status == states.STARTED


KNOWN = {
    "task_name": "posts.tasks.basics.add",
    "task_args": '"(1, 2)"',
    "task_kwargs": '"{}"',
    "worker": "w@here",
    "periodic_task_name": "every day",
}


@pytest.mark.parametrize("state", [states.SUCCESS, states.FAILURE])
def test_who_knows_nothing_overwrites_nothing(backend, request_of, state):
    task_id = uuid()
    request = request_of(task_id, children=[AsyncResult("a-child")])
    backend.store_result(task_id, {}, states.STARTED, request=request)
    started = stored(task_id).date_started
    backend.store_result(task_id, ValueError() if state == states.FAILURE else 1, state)
    row = stored(task_id)
    assert {name: getattr(row, name) for name in KNOWN} == KNOWN
    assert row.date_started == started
    assert "a-child" in row.meta
    assert started <= row.date_done


def test_a_traceback_stays_until_success(backend, configure):
    configure(result_extended=False)
    task_id = uuid()
    backend.mark_as_retry(task_id, ValueError("first"), "the first traceback")
    assert stored(task_id).traceback == "the first traceback"
    backend.mark_as_started(task_id)
    assert stored(task_id).traceback == "the first traceback"
    backend.mark_as_failure(task_id, ValueError("second"))
    assert stored(task_id).traceback == "the first traceback"
    backend.mark_as_failure(task_id, ValueError("third"), "the third traceback")
    assert stored(task_id).traceback == "the third traceback"
    assert stored(task_id).task_name is None
    backend.mark_as_done(task_id, 1)
    assert stored(task_id).traceback is None


def test_another_task_that_is_at_work_says_nothing_of_this_one(backend, request_of):
    """A worker that fails the body of a chord is at work on a member of the header."""
    task = current_app.tasks["posts.tasks.basics.add"]
    at_work = uuid()
    task.request_stack.push(request_of(at_work, children=[AsyncResult("a-child")]))
    _task_stack.push(task)
    try:
        body = uuid()
        backend.mark_as_failure(body, ValueError())
        backend.store_result(at_work, {"done": 1}, "PROGRESS")
    finally:
        _task_stack.pop()
        task.request_stack.pop()
    assert stored(body).meta is None
    assert "a-child" in stored(at_work).meta


# --- What databases and JSON cannot carry ---------------------------------------------------------

ODD = "nul \x00, emoji 😀, lone surrogate \ud800"


def test_odd_characters_are_stored(backend, request_of):
    task_id = uuid()
    request = request_of(task_id, meta={"odd": ODD})
    request.task = request.hostname = request.periodic_task_name = ODD
    request.argsrepr = request.kwargsrepr = ODD
    backend.mark_as_failure(task_id, ValueError(ODD), f"Traceback {ODD}", request=request)
    result = AsyncResult(task_id, backend=backend)
    assert result.result.args == (ODD,)
    assert result.args == result.kwargs == ODD
    assert result.traceback == "Traceback nul \\x00, emoji 😀, lone surrogate \\ud800"
    assert result.name == result.worker == "nul \\x00, emoji 😀, lone surrogate \\ud800"
    backend.mark_as_done(task_id, {"result": ODD}, request=request)
    assert AsyncResult(task_id, backend=backend).result == {"result": ODD}


def test_names_that_are_too_long_are_cut(backend, request_of):
    """PostgreSQL refuses them, and the result of a task is worth more than its worker's name."""
    task_id = uuid()
    request = request_of(task_id)
    request.task = request.hostname = request.periodic_task_name = "x" * 1000
    backend.mark_as_started(task_id)
    for state in (states.STARTED, states.SUCCESS):
        backend.store_result(task_id, 1, state, request=request)
    row = stored(task_id)
    assert (len(row.task_name), len(row.worker), len(row.periodic_task_name)) == (255, 100, 255)


def test_ten_megabytes(backend):
    task_id = uuid()
    backend.mark_as_done(task_id, "x" * 10_000_000)
    assert len(AsyncResult(task_id, backend=backend).result) == 10_000_000


def test_what_json_cannot_carry_is_named(backend, request_of):
    task_id = uuid()
    with pytest.raises(EncodeError) as error:
        backend.mark_as_done(task_id, {"a": {1, 2}}, request=request_of(task_id))
    assert str(error.value).startswith("posts.tasks.basics.add gave a dict that json cannot carry:")
    assert "set" in str(error.value)
    assert "FORCE_JSON" in str(error.value)
    assert not TaskResult.objects.exists()


def test_force_json_keeps_the_text(backend, tasklog):
    task_id = uuid()
    with tasklog(FORCE_JSON=True):
        backend.mark_as_done(task_id, {1, 2})
        backend.store_result("plain", [1, 2], states.SUCCESS)
    assert json.loads(stored(task_id).result) == {"value": "{1, 2}", "forced_json": True}
    assert stored("plain").result == "[1, 2]"


def test_what_is_only_told_about_a_task_never_fails_it(backend, request_of):
    task_id = uuid()
    request = request_of(task_id, meta={"a": {1, 2}}, children=[AsyncResult("a-child")])
    request.argsrepr, request.args = None, [{1, 2}]
    backend.mark_as_done(task_id, 42, request=request)
    result = AsyncResult(task_id, backend=backend)
    assert (result.result, result.args) == (42, "[{1, 2}]")
    assert result.children[0].id == "a-child"
    assert backend.get_task_meta(task_id)["a"] == "{1, 2}"


# --- Reading --------------------------------------------------------------------------------------


def test_celerys_names(backend, request_of):
    """AsyncResult.name is None with django-celery-results, and date_done set while it runs."""
    task_id = uuid()
    result = AsyncResult(task_id, backend=backend)
    assert (result.state, result.name, result.date_done) == (states.PENDING, None, None)
    backend.store_result(task_id, {}, states.STARTED, request=request_of(task_id))
    assert (result.name, result.args, result.worker) == (KNOWN["task_name"], "(1, 2)", "w@here")
    assert result.date_done is None
    backend.mark_as_done(task_id, 1)
    assert abs(result.date_done - timezone.now()) < timedelta(minutes=1)
    assert backend.get_task_meta(task_id)["task_name"] == KNOWN["task_name"]


@pytest.fixture
def pauses(monkeypatch):
    """How long it was slept, without sleeping: time stands still but for that."""
    slept = []
    monkeypatch.setattr("tasklog.backends.time.sleep", slept.append)
    monkeypatch.setattr("tasklog.backends.time.monotonic", lambda: sum(slept))
    return slept


@pytest.mark.django_db(transaction=True)
def test_the_pauses_grow(backend, pauses):
    with pytest.raises(TimeoutError):
        AsyncResult(uuid(), backend=backend).get(timeout=10)
    assert pauses[:4] == [0.001] * 4
    assert max(pauses) == 0.5
    assert pauses[:-1] == sorted(pauses[:-1])
    assert sum(pauses) == pytest.approx(10)
    assert len(pauses) < 60


@pytest.mark.django_db(transaction=True)
def test_an_interval_is_the_longest_pause(backend, pauses):
    group = GroupResult(uuid(), [AsyncResult(uuid(), backend=backend)])
    for result in (AsyncResult(uuid(), backend=backend), group):
        pauses.clear()
        with pytest.raises(TimeoutError):
            result.get(timeout=1, interval=0.02)
        assert max(pauses) == 0.02


@pytest.mark.django_db(transaction=True)
def test_no_timeout_means_one_look(backend, pauses):
    with pytest.raises(TimeoutError):
        AsyncResult(uuid(), backend=backend).get(timeout=0)
    assert not pauses


@pytest.mark.django_db(transaction=True)
def test_a_result_that_comes_meanwhile(backend, monkeypatch):
    """Also of a task that has no row yet."""
    task_id = uuid()
    looks = []

    def work(seconds):
        looks.append(seconds)
        if len(looks) == 5:
            backend.mark_as_done(task_id, 42)

    monkeypatch.setattr("tasklog.backends.time.sleep", work)
    assert AsyncResult(task_id, backend=backend).get(timeout=60) == 42
    assert len(looks) == 5


@pytest.mark.django_db(transaction=True)
def test_a_group_is_read_with_one_statement_a_look(backend, monkeypatch, statements):
    ids = [uuid() for _ in range(50)]
    for number, task_id in enumerate(ids[:-1]):
        backend.mark_as_done(task_id, number)
    backend.mark_as_started(ids[-1])
    monkeypatch.setattr(
        "tasklog.backends.time.sleep", lambda seconds: backend.mark_as_done(ids[-1], 49)
    )
    group = GroupResult(uuid(), [AsyncResult(task_id, backend=backend) for task_id in ids])
    with statements() as asked:
        assert group.get(timeout=60) == list(range(50))
    reading = [query for query in asked if query["sql"].startswith("SELECT")]
    assert len(reading) == 2


def test_more_results_than_a_statement_takes(backend, monkeypatch):
    monkeypatch.setattr(rows, "BATCH", 10)
    ids = [uuid() for _ in range(35)]
    for task_id in ids:
        backend.mark_as_done(task_id, task_id)
    group = GroupResult(uuid(), [AsyncResult(task_id, backend=backend) for task_id in ids])
    assert group.get(timeout=1) == ids


@pytest.mark.django_db(transaction=True)
def test_a_failure_in_a_group_is_raised(backend):
    ids = [uuid(), uuid()]
    backend.mark_as_done(ids[0], 1)
    backend.mark_as_failure(ids[1], ValueError("no"))
    group = GroupResult(uuid(), [AsyncResult(task_id, backend=backend) for task_id in ids])
    with pytest.raises(ValueError, match="no"):
        group.get(timeout=1)
    assert isinstance(group.get(timeout=1, propagate=False)[1], ValueError)


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_waiting_in_a_transaction_on_sqlite_is_refused(backend):
    """It would wait for ever: the worker cannot write."""
    task_id = uuid()
    with (
        transaction.atomic(),
        pytest.raises(transaction.TransactionManagementError, match="Wait after the transaction"),
    ):
        AsyncResult(task_id, backend=backend).get(timeout=60)
    backend.mark_as_done(task_id, 42)
    with transaction.atomic():
        assert AsyncResult(task_id, backend=backend).get(timeout=60) == 42


# --- Django's signal ------------------------------------------------------------------------------


@pytest.fixture
def heard():
    """What receivers of post_save are told of results."""
    told = []

    def listen(sender, instance, created, **kwargs):
        told.append((instance.pk, instance.status, instance.task_name, created))

    post_save.connect(listen, sender=TaskResult)
    yield told
    post_save.disconnect(listen, sender=TaskResult)


def test_the_signal_tells_of_each_state(backend, request_of, heard):
    """C14. Of what came too late it tells nothing."""
    task_id = uuid()
    backend.store_result(task_id, {}, states.STARTED, request=request_of(task_id))
    backend.store_result(task_id, {"done": 1}, "PROGRESS")
    backend.mark_as_done(task_id, 1)
    backend.mark_as_started(task_id)
    pk, name = stored(task_id).pk, KNOWN["task_name"]
    assert heard == [
        (pk, states.STARTED, name, True),
        (pk, "PROGRESS", name, False),
        (pk, states.SUCCESS, name, False),
    ]


# --- Where it does not work -----------------------------------------------------------------------


def test_an_unsuitable_database_is_refused(monkeypatch):
    monkeypatch.setattr(connection.features, "supports_update_conflicts_with_target", False)
    with pytest.raises(ImproperlyConfigured, match="needs PostgreSQL or SQLite"):
        DatabaseBackend(current_app._get_current_object())


# --- Cleaning up ----------------------------------------------------------------------------------


@pytest.fixture
def aged(backend):
    """Rows that have not changed for a month: ``aged("id", state)``."""

    def make(task_id, state):
        backend.store_result(
            task_id, ValueError() if state in states.EXCEPTION_STATES else 1, state
        )
        month = timezone.now() - timedelta(days=30)
        TaskResult.objects.filter(task_id=task_id).update(date_done=month)

    return make


def test_only_what_has_ended_is_cleaned_up(backend, aged):
    unfinished = [*states.UNREADY_STATES, "PROGRESS"]
    for state in (*states.READY_STATES, *unfinished):
        aged(state, state)
    backend.mark_as_done("new", 1)
    assert backend.cleanup() == {
        "chords": 0,
        "results": len(states.READY_STATES),
        "groups": 0,
        "calls": 0,
    }
    assert set(TaskResult.objects.values_list("task_id", flat=True)) == {*unfinished, "new"}


def test_groups_and_chords_are_cleaned_up(backend, aged):
    """A chord that waits is kept, however old; one whose members' results go can never end."""
    for name in ("old", "new"):
        GroupResult(name, [AsyncResult("x")]).save(backend=backend)
    month = timezone.now() - timedelta(days=30)
    SavedGroup.objects.filter(group_id="old").update(date_done=month)
    aged("ended", states.SUCCESS)
    aged("waits", states.RETRY)
    backend.apply_chord(("lost", [AsyncResult("ended"), AsyncResult("never")]), None)
    backend.apply_chord(("waiting", [AsyncResult("waits"), AsyncResult("never")]), None)
    assert backend.cleanup() == {"chords": 1, "results": 1, "groups": 1, "calls": 0}
    assert ChordCounter.objects.get().group_id == "waiting"
    assert SavedGroup.objects.get().group_id == "new"


@pytest.mark.django_db(transaction=True)
def test_each_batch_is_a_transaction(backend, aged, monkeypatch):
    """A cleanup that is cut off has deleted something, and blocks nobody for long."""
    monkeypatch.setattr(rows, "BATCH", 10)
    for number in range(35):
        aged(f"id-{number}", states.SUCCESS)
    with CaptureQueriesContext(connection) as asked:
        assert backend.cleanup()["results"] == 35
    deleting = [
        query for query in asked if "DELETE" in query["sql"] and "taskresult" in query["sql"]
    ]
    assert len(deleting) == 4
    assert not connection.in_atomic_block


@pytest.mark.parametrize("never", [None, 0])
def test_no_expiry_means_no_cleanup(backend, aged, never):
    aged("old", states.SUCCESS)
    backend.expires = never
    assert backend.cleanup() is None
    assert stored("old")


def test_the_nightly_task_cleans_up(backend, aged):
    """`celery.backend_cleanup`, which beat sends."""
    aged("old", states.SUCCESS)
    task = current_app.tasks["celery.backend_cleanup"]
    task()
    assert not TaskResult.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_timeout_is_in_seconds(backend):
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        backend.wait_for(uuid(), timeout=0.05)
    assert time.monotonic() - began >= 0.05


# --- What was stored by other means ---------------------------------------------------------------


def test_results_stay_readable_when_the_serializer_changes(configure):
    """Each row says how it was written. One of another kind would end a look at many."""
    ids = {}
    for serializer in ("json", "pickle"):
        configure(result_serializer=serializer, accept_content={"json", "pickle"})
        backend = DatabaseBackend(current_app._get_current_object())
        ids[serializer] = uuid()
        backend.mark_as_done(ids[serializer], {"by": serializer})
    found = backend.finished(ids.values())
    assert [found[task_id]["result"] for task_id in ids.values()] == [{"by": n} for n in ids]
    assert backend.get_state(ids["json"]) == states.SUCCESS


# --- Groups in groups -----------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_group_in_a_group_is_waited_for_no_longer_than_asked(backend):
    """Celery asks for the members of the inner one without a timeout."""
    inner = GroupResult(uuid(), [AsyncResult(uuid()), AsyncResult(uuid())])
    outer = GroupResult(uuid(), [AsyncResult(uuid()), inner])
    for result in (outer[0], inner[0]):
        backend.mark_as_done(result.id, 1)
    with pytest.raises(TimeoutError):
        outer.get(timeout=0.1)
    backend.mark_as_done(inner[1].id, 2)
    assert outer.get(timeout=5) == [1, [1, 2]]
