"""Calls from end to end: written down, sent by the dispatcher, run by a real worker."""

import json
import signal
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from celery import chain, chord, current_app, group
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult
from django.db import connection, connections, transaction
from django.utils import timezone as django_timezone
from django_celery_beat.models import PeriodicTask
from django_celery_results.models import TaskResult

from blog.celery import square
from posts.tasks.basics import add
from tasklog.dispatcher import send_due_calls
from tasklog.models import SCHEDULED, TaskCall
from tests.services import wait_for
from tests.tasks import total

from .tasks import (
    call_in_transactions,
    call_others,
    clock,
    describe,
    effect,
    failing_effect,
    on_error,
    on_error_by_id,
    replaced,
    replaced_by_chain,
    third_time,
    third_time_by_itself,
)

pytestmark = pytest.mark.django_db(transaction=True)

SETTINGS = "tests.tasklog.settings"


@pytest.fixture(scope="module", autouse=True)
def worker(start_once):
    """A worker that is not too fast for the tests: it serves all of this module."""
    return start_once.worker("--include", "tests.tasks,tests.tasklog.tasks")


@pytest.fixture
def rows(transactional_db):
    """The numbers in a table, once they are as many: ``rows("ran", 2)``."""

    def read(table, number):
        def numbers():
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT number FROM {table} ORDER BY number")
                return [row[0] for row in cursor.fetchall()]

        wait_for(lambda: len(numbers()) >= number, lambda: f"{number} rows, not {numbers()}")
        return numbers()

    with connection.cursor() as cursor:
        for table in ("ran", "errors"):
            cursor.execute(f"CREATE TABLE {table} (number INTEGER)")
    yield read
    with connection.cursor() as cursor:
        for table in ("ran", "errors"):
            cursor.execute(f"DROP TABLE {table}")


def dispatch(number=1):
    """Dispatch until so many calls were sent."""
    sent = 0

    def enough():
        nonlocal sent
        sent += send_due_calls()
        return sent >= number

    wait_for(enough, lambda: f"{number} calls to be sent, not {sent}")
    assert sent == number


def value_of(result):
    return result.get(timeout=30)


def in_a_second(zone=UTC):
    return datetime.now(zone) + timedelta(seconds=1)


@pytest.mark.parametrize(
    "when",
    [
        lambda: {"countdown": 1},
        lambda: {"countdown": 0.3},
        lambda: {"eta": in_a_second()},
        lambda: {"eta": in_a_second(timezone(timedelta(hours=5, minutes=30)))},
        lambda: {"eta": in_a_second().replace(tzinfo=None)},  # CELERY_TIMEZONE, here UTC
        lambda: {"eta": in_a_second().isoformat()},
    ],
)
def test_a_scheduled_call_runs_once_its_eta_has_come(when):
    """By the database's clock, which the task reads."""
    began = django_timezone.now()
    result = clock.apply_async(**when())
    call = TaskCall.objects.get()
    assert began < call.eta < django_timezone.now() + timedelta(seconds=2)
    dispatch()
    assert datetime.fromisoformat(value_of(result)) >= call.eta
    assert TaskCall.objects.get().status == "SUCCESS"


def test_no_call_of_many_runs_before_its_eta():
    results = [clock.apply_async(countdown=n / 20) for n in range(1, 21)]
    dispatch(20)
    ran = [datetime.fromisoformat(value_of(result)) for result in results]
    etas = TaskCall.objects.order_by("pk").values_list("eta", flat=True)
    assert [at for at, eta in zip(ran, etas, strict=True) if at < eta] == []


def test_get_waits_for_a_call_that_is_not_sent_yet():
    result = square.apply_async([4], countdown=0.2)
    assert (TaskCall.objects.get().status, result.state) == (SCHEDULED, "PENDING")
    dispatcher = threading.Thread(target=lambda: (dispatch(), connections.close_all()))
    dispatcher.start()
    assert value_of(result) == 16
    dispatcher.join()


def test_a_scheduled_chain():
    last = chain(square.s(2), square.s(), square.s()).apply_async(countdown=0.2)
    dispatch()
    assert value_of(last) == 256
    assert value_of(last.parent) == 16
    assert value_of(last.parent.parent) == 4
    first = AsyncResult(last.parent.parent.id)
    assert [child.id for child in first.children] == [last.parent.id]
    assert TaskCall.objects.count() == 3


def test_a_chain_with_a_pause_in_the_middle():
    """The worker puts the second call into the table."""
    last = chain(square.s(2), square.s().set(countdown=0.3), square.s()).apply_async()
    wait_for(lambda: TaskCall.objects.in_state(SCHEDULED).exists(), "the second call")
    dispatch()
    assert value_of(last) == 256
    assert value_of(last.parent.parent) == 4
    assert [child.id for child in AsyncResult(last.parent.parent.id).children] == [last.parent.id]


def test_a_scheduled_group():
    result = group(square.s(n) for n in range(5)).apply_async(countdown=0.2)
    dispatch(5)
    assert value_of(result) == [0, 1, 4, 9, 16]


def test_a_scheduled_chord():
    result = chord((square.s(n) for n in range(5)), total.s()).apply_async(countdown=0.2)
    dispatch(5)
    assert value_of(result) == 30
    assert sorted(value_of(member) for member in result.parent.children) == [0, 1, 4, 9, 16]


def test_a_chord_of_which_a_scheduled_member_is_revoked_fails():
    """As with Celery's own revoke: the body does not wait for ever."""
    members = [square.s(1), square.s(2).set(countdown=3600)]
    result = chord(members, total.s()).apply_async()
    call = TaskCall.objects.get(eta__isnull=False)
    call.revoke()
    call.refresh_from_db()
    assert call.status == "REVOKED"
    error = result.get(timeout=30, propagate=False)
    assert isinstance(error, ChordError)
    assert "TaskRevokedError" in str(error)


def test_a_chain_that_is_retried_has_a_tail_of_its_own(rows):
    """Its results are new ones: those of the first time are final."""
    first = chain(square.s(2), chord([square.s(), square.s()], total.s()), effect.s()).delay()
    assert value_of(first) == 32
    head = TaskCall.objects.get(args=[2])
    again = head.retry()
    assert value_of(again) == 4
    assert rows("ran", 2) == [32, 32]
    ids = list(TaskCall.objects.values_list("task_id", flat=True))
    assert len(ids) == len(set(ids)) == 10
    head.refresh_from_db()
    assert head.retries.get().task_id == again.id


def test_a_chord_whose_members_and_body_have_etas_of_their_own():
    members = [square.s(1).set(countdown=0.2), square.s(2), square.s(3).set(countdown=0.4)]
    result = chord(members, total.s().set(countdown=0.2)).apply_async()
    dispatch(3)  # two members, and the body
    assert value_of(result) == 14


def test_a_scheduled_chain_into_a_group_into_a_task():
    """Celery makes a chord of it."""
    canvas = square.s(2) | group(square.s(), add.s(1, seconds=0)) | total.s()
    result = canvas.apply_async(countdown=0.2)
    dispatch()
    assert value_of(result) == 16 + 5


def test_links_of_a_scheduled_call_run(rows):
    effect.apply_async([3], countdown=0.2, link=[effect.si(4), effect.s()])
    dispatch()
    assert rows("ran", 3) == [3, 3, 4]


def test_errbacks_of_a_scheduled_call_run(rows):
    links = {"link_error": [on_error.s(), on_error_by_id.s()], "link": effect.si(4)}
    result = failing_effect.apply_async([3], countdown=0.2, **links)
    dispatch()
    with pytest.raises(ValueError, match="number 3"):
        value_of(result)
    assert rows("errors", 2) == [-1, 3]
    assert rows("ran", 1) == [3]


def test_what_has_expired_does_not_run(rows):
    """Its time is over before its ETA: the worker drops it."""
    kept = effect.apply_async([1], countdown=0.2, expires=60)
    dropped = effect.apply_async([2], countdown=0.2, expires=0.1)
    dispatch(2)
    assert value_of(kept) == 1
    wait_for(lambda: dropped.state == "REVOKED", "the other to be dropped")
    assert rows("ran", 1) == [1]
    assert TaskCall.objects.get(task_id=dropped.id).status == "REVOKED"


@pytest.mark.parametrize("options", [{}, {"countdown": 0.2}])
@pytest.mark.parametrize("task", [third_time, third_time_by_itself])
def test_a_retry_is_the_same_call(task, options):
    """It keeps its one row, and goes Celery's usual way: the table's clock has no part in it."""
    result = task.apply_async(**options)
    if options:
        dispatch()
    assert value_of(result) == 2
    call = TaskCall.objects.get()
    assert (call.task_id, call.status) == (result.id, "SUCCESS")
    assert "retries" not in call.options
    assert send_due_calls() == 0


def test_a_retried_call_that_was_made_in_a_transaction():
    with transaction.atomic():
        result = third_time.delay()
    assert value_of(result) == 2
    assert TaskCall.objects.count() == 1


@pytest.mark.parametrize("options", [{}, {"countdown": 0.2}])
def test_a_task_that_replaces_itself_is_the_same_call(options):
    result = replaced.apply_async([3], **options)
    if options:
        dispatch()
    assert value_of(result) == 9
    call = TaskCall.objects.get()
    assert (call.task_id, call.name) == (result.id, replaced.name)


def test_a_task_that_replaces_itself_by_a_chain():
    result = replaced_by_chain.apply_async([3], countdown=0.2)
    dispatch()
    assert value_of(result) == 81


def test_calls_within_a_task_know_their_root_and_parent():
    """Also the one that a dispatcher sends, which is a task itself, and none of the family."""
    result = call_others.delay()
    root_id, *called = value_of(result)
    assert root_id == result.id
    wait_for(TaskCall.objects.due().exists, "the last one to be due")
    current_app.send_task("tasklog.send_due_calls")
    assert [value_of(AsyncResult(each)) for each in called] == [[result.id, result.id]] * 3
    assert [child.id for child in result.children] == called


def test_a_task_that_calls_others_in_transactions(rows):
    kept, gone = value_of(call_in_transactions.delay())
    assert value_of(AsyncResult(kept)) == 1
    assert rows("ran", 1) == [1]
    assert not TaskCall.objects.filter(task_id=gone).exists()


NASTY = ["NUL \x00", "🦉", "lone \ud800 surrogate", "x" * 100_000, b"\xff", 2**80, [None, [True]]]


def test_made_again_it_has_the_same_arguments():
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    first = describe.delay(*NASTY, moment=moment, nested={"a": [{"b": moment.date()}]})
    second = TaskCall.objects.get().retry()
    assert value_of(first) == value_of(second) == repr((tuple(NASTY), {
        "moment": moment, "nested": {"a": [{"b": moment.date()}]},
    }))  # fmt: skip
    first, second = TaskCall.objects.order_by("pk")
    assert (second.args, second.kwargs) == (first.args, first.kwargs)
    assert second.retry_of == first


@pytest.mark.parametrize("options", [{}, {"countdown": 0.1}])
def test_no_argument_ends_the_worker(worker, options):
    """Each comes through the table and the broker as it is."""
    results = [describe.apply_async([value], **options) for value in NASTY]
    if options:
        dispatch(len(NASTY))
    assert [value_of(result) for result in results] == [repr(((value,), {})) for value in NASTY]
    assert worker.running


def test_revoked_before_its_eta_it_does_not_run(rows):
    effect.apply_async([1], countdown=0.2)
    result = effect.apply_async([2], countdown=0.2)
    result.revoke()
    with pytest.raises(TaskRevokedError):
        value_of(result)
    dispatch()
    assert rows("ran", 1) == [1]
    assert value_of(effect.delay(3)) == 3
    assert rows("ran", 2) == [1, 3]


def test_beat_sends_the_dispatcher(start_once):
    """Every SEND_EVERY seconds: nobody but beat and the worker has a hand in it."""
    env = {"DJANGO_SETTINGS_MODULE": SETTINGS, "TASKLOG_CHANGES": json.dumps({"SEND_EVERY": 1})}
    beat = start_once("celery", "-A", "blog", "beat", "-l", "INFO", "--pidfile=", env=env)
    try:
        result = square.apply_async([5], countdown=0.5)
        assert value_of(result) == 25
        schedule = PeriodicTask.objects.get(task="tasklog.send_due_calls")
        assert (schedule.interval.every, schedule.interval.period) == (1, "seconds")
        beat.wait_for_output("Sending due task tasklog.send_due_calls", count=3)
    finally:
        beat.stop(signal.SIGKILL)
    assert not TaskCall.objects.filter(name="tasklog.send_due_calls").exists()
    assert not TaskResult.objects.filter(task_name="tasklog.send_due_calls").exists()


def test_a_call_from_the_command_line_is_tracked(start_once):
    """`celery call` does not set Django up."""
    call = start_once("celery", "-A", "blog", "call", "blog.celery.square", "--args=[3]")
    assert call.wait() == 0, call.output
    task_id = call.output.split()[-1]
    assert value_of(AsyncResult(task_id)) == 9
    assert TaskCall.objects.get().task_id == task_id


def test_a_scheduled_call_from_the_command_line(start_once):
    options = ["--args=[3]", "--countdown=0.5"]
    call = start_once("celery", "-A", "blog", "call", "blog.celery.square", *options)
    assert call.wait() == 0, call.output
    dispatch()
    assert value_of(AsyncResult(call.output.split()[-1])) == 9


def test_a_call_is_in_the_database_of_its_transaction(start_once, folder):
    """Business data in another database than the first: the call is committed with it."""
    env = {"DJANGO_SETTINGS_MODULE": SETTINGS, "OTHER_DATABASE": str(folder / "other.sqlite3")}
    program = start_once("python", "-m", "tests.tasklog.programs", "two_databases", env=env)
    assert program.wait(60) == 0, program.output
    found = json.loads(program.output.splitlines()[-1])
    assert {name: places for name, (_task_id, places, _unsent) in found.items()} == {
        "no transaction": ["default"],
        "default": ["default"],
        "other": ["other"],
        "rolled back": [],
        "both": ["default"],
        "scheduled": ["other"],
    }
    assert not any(unsent for _task_id, _places, unsent in found.values())
    del found["rolled back"]
    values = [value_of(AsyncResult(task_id)) for task_id, _places, _unsent in found.values()]
    assert values == [1, 4, 9, 25, 36]


def test_a_result_is_where_its_call_is(start_once, redis_server, folder):
    """Of another database than the first too: its state is known there, and it is cleaned up."""
    env = {"DJANGO_SETTINGS_MODULE": SETTINGS, "OTHER_DATABASE": str(folder / "other.sqlite3")}
    env["CELERY_BROKER_URL"] = redis_server.url(1)  # the module's worker knows one database
    worker = start_once.worker(env=env)
    program = start_once("python", "-m", "tests.tasklog.programs", "result_elsewhere", env=env)
    assert program.wait(60) == 0, program.output
    worker.stop()
    assert json.loads(program.output.splitlines()[-1]) == {
        "result": 9,
        "status": "SUCCESS",
        "stale": 0,
        "cleaned up": 1,
        "left": [0, 0],
        "forgotten": "PENDING",
    }
