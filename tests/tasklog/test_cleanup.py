"""Deleting what ended long ago, and ending what will never end by itself."""

from datetime import timedelta

import pytest
from celery import chord, current_app, shared_task, states
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django_celery_results.models import TaskResult

from blog.celery import debug_task, square
from tasklog import rows
from tasklog.cleanup import clean_up_calls
from tasklog.lost import GRACE, end_lost_calls
from tasklog.models import TaskCall
from tasklog.tasks import clean_up_calls as clean_up_calls_task
from tests.tasks import late, total

pytestmark = pytest.mark.usefixtures("messages")

DAY = timedelta(days=1)


def store(result, state, value=None):
    current_app.backend.store_result(result.id, value, state)


def grow_older(age=2 * DAY):
    """Move all that has happened into the past."""
    TaskCall.objects.update(
        eta=F("eta") - age, submitted_at=F("submitted_at") - age, sent_at=F("sent_at") - age
    )
    TaskResult.objects.update(date_done=F("date_done") - age, date_started=F("date_started") - age)


def left():
    return {call.task_id for call in TaskCall.objects.all()}


@pytest.fixture
def one_of_each():
    """A call in each state, by its state."""
    calls = {state: square.delay(1) for state in (*states.READY_STATES, "STARTED", "RETRY")}
    for state, result in calls.items():
        store(result, state, ValueError("no") if state in states.EXCEPTION_STATES else None)
    calls["PENDING"] = square.delay(1)
    calls["SCHEDULED"] = square.apply_async([1], countdown=3600)
    calls["ignored"] = square.apply_async([1], ignore_result=True, track=True)
    return calls


def test_what_ended_goes_with_its_result_and_what_waits_stays(one_of_each):
    grow_older()
    assert clean_up_calls(DAY) == 4
    stays = {one_of_each[state].id for state in ("STARTED", "RETRY", "PENDING", "SCHEDULED")}
    assert left() == stays
    assert {result.task_id for result in TaskResult.objects.all()} < stays


def test_the_nightly_cleanup_of_results_takes_the_calls_along(one_of_each):
    """`celery.backend_cleanup`, which the site's beat sends."""
    grow_older(30 * DAY)
    assert current_app.backend.cleanup()["calls"] == 1  # the one that has no result
    stays = {one_of_each[state].id for state in ("STARTED", "RETRY", "PENDING", "SCHEDULED")}
    assert left() == stays


def test_what_is_young_stays(one_of_each):
    assert clean_up_calls(DAY) == 0
    assert len(left()) == len(one_of_each)


def test_only_some_states(one_of_each):
    grow_older()
    assert TaskCall.objects.clean_up(DAY, ["FAILURE"]) == 1
    assert one_of_each["FAILURE"].id not in left()
    assert one_of_each["ignored"].id in left()


def test_only_some_calls(one_of_each):
    grow_older()
    assert TaskCall.objects.filter(name=debug_task.name).clean_up(DAY) == 0


def test_a_call_that_was_never_sent_stays_though_its_result_is_ignored(broker_away):
    debug_task.delay()
    grow_older()
    assert clean_up_calls(DAY) == 0
    assert len(left()) == 1


def test_a_result_that_was_stored_though_it_is_ignored_says_when_the_call_ended():
    """As with task_store_errors_even_if_ignored."""
    result = square.apply_async([1], ignore_result=True, track=True)
    grow_older()
    store(result, "FAILURE", ValueError("no"))
    assert clean_up_calls(DAY) == 0
    assert left() == {result.id}


def test_a_batch_is_a_transaction(monkeypatch):
    monkeypatch.setattr(rows, "BATCH", 2)
    for _ in range(5):
        store(square.delay(1), "SUCCESS")
    grow_older()
    with CaptureQueriesContext(connection) as queries:
        assert TaskCall.objects.clean_up(DAY) == 5
    begun = [query["sql"] for query in queries if query["sql"].startswith("BEGIN")]
    assert len(begun) == 3
    assert not TaskResult.objects.exists()


def test_what_was_retried_can_go_before_its_retry():
    store(square.delay(1), "FAILURE", ValueError("no"))
    again = TaskCall.objects.get().retry()
    TaskResult.objects.update(date_done=F("date_done") - 2 * DAY)
    assert clean_up_calls(DAY) == 1
    assert TaskCall.objects.get().task_id == again.id
    assert TaskCall.objects.get().retry_of is None


def test_where_results_are_kept_elsewhere_what_was_sent_counts_as_ended(monkeypatch):
    square.delay(1)
    waiting = square.apply_async([1], countdown=7 * 24 * 3600)
    grow_older()
    assert clean_up_calls(DAY) == 0
    app = current_app._get_current_object()
    monkeypatch.setattr(type(app), "backend", object())
    assert clean_up_calls(DAY) == 1
    assert left() == {waiting.id}


def test_the_task_deletes_what_is_older_than_results_may_be(one_of_each, monkeypatch):
    grow_older(timedelta(days=8))
    assert clean_up_calls_task() == 4
    monkeypatch.setitem(current_app.conf, "result_expires", None)
    assert clean_up_calls_task() == 0


def test_the_task_deletes_by_age_and_state(one_of_each):
    """As the command does. Both are plain values, so a schedule in the admin can give them."""
    grow_older(timedelta(days=2))
    before = left()
    assert clean_up_calls_task(seconds=3 * 24 * 3600) == 0
    failures = set(TaskResult.objects.filter(status="FAILURE").values_list("task_id", flat=True))
    assert clean_up_calls_task(24 * 3600, ["FAILURE"]) == len(failures) > 0
    assert left() == before - failures


# --- Lost calls -------------------------------------------------------------------------------


@shared_task(time_limit=60, soft_time_limit=50)
def limited(n=None):
    """May take a minute."""


LIMIT = timedelta(seconds=60)


def test_a_call_whose_worker_was_killed_ends():
    result = limited.delay()
    store(result, "STARTED", {"hostname": "gone@host"})
    TaskResult.objects.update(worker="gone@host")
    grow_older(LIMIT + GRACE - timedelta(seconds=10))
    assert end_lost_calls() == []
    grow_older(timedelta(seconds=20))
    assert [call.task_id for call in end_lost_calls()] == [result.id]
    assert result.state == "FAILURE"
    assert "WorkerLostError" in repr(result.result)
    assert "gone@host" in str(result.result)
    assert "60 s" in str(result.result)
    assert end_lost_calls() == []


def test_what_was_cut_off_while_it_ended_a_call_is_made_good():
    """The row was claimed with the database's clock, which SQLite writes as another text."""
    result = limited.delay()
    store(result, "STARTED")
    claimed = "2026-01-31 10:00:00.123"
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_celery_results_taskresult SET date_done = %s", [claimed])
    assert [call.task_id for call in end_lost_calls()] == [result.id]


def test_the_limit_of_the_call_counts_and_then_that_of_the_site():
    longer, of_the_site = (
        limited.apply_async(time_limit=4000, soft_time_limit=3000),
        square.delay(1),
    )
    for result in (longer, of_the_site):
        store(result, "PROGRESS")
    grow_older(timedelta(seconds=current_app.conf.task_time_limit) + 2 * GRACE)
    assert [call.task_id for call in end_lost_calls()] == [of_the_site.id]


def test_calls_that_may_still_end_are_left_alone(monkeypatch):
    waits, again, ended, late_one, unknown = (
        limited.delay(), limited.delay(), limited.delay(), late.delay("", 1, 1),
        current_app.send_task("nobody.knows", track=True),
    )  # fmt: skip
    store(again, "RETRY", ValueError())
    store(ended, "SUCCESS")
    for result in (late_one, unknown):
        store(result, "STARTED")
    monkeypatch.setitem(current_app.conf, "task_time_limit", None)
    monkeypatch.setattr(type(square._get_current_object()), "time_limit", None)
    unlimited = square.delay(1)
    TaskCall.objects.filter(task_id=unlimited.id).update(options={})
    store(unlimited, "STARTED")
    grow_older()
    assert end_lost_calls() == []
    assert waits.state == "PENDING"


def test_of_two_who_look_at_once_one_ends_it(monkeypatch):
    store(limited.delay(), "STARTED")
    grow_older()
    marked = []
    monkeypatch.setattr(
        type(current_app.backend), "mark_as_failure", lambda self, *a, **k: marked.append(a)
    )
    from tasklog import lost

    [found] = list(lost.find_lost(TaskCall.objects.all()))
    monkeypatch.setattr(lost, "find_lost", lambda *args: [found])
    assert len(end_lost_calls()) == 1
    assert end_lost_calls() == []
    assert len(marked) == 1


def test_a_chord_that_waits_for_a_lost_call_fails():
    result = chord([limited.s(1), limited.s(2)])(total.s())
    first, second = (current_app.AsyncResult(child.id) for child in result.parent.children)
    request = request_of(second.id)
    current_app.backend.mark_as_done(second.id, 2, request=request)
    store(first, "STARTED")
    TaskResult.objects.filter(task_id=first.id).update(date_done=F("date_done") - DAY)
    assert len(end_lost_calls()) == 1
    assert result.state == "FAILURE"
    assert "WorkerLostError" in str(result.result)


def request_of(task_id):
    """What a worker knows of a member of a chord."""
    from celery.app.task import Context

    options = TaskCall.objects.get(task_id=task_id).options
    return Context(id=task_id, task=limited.name, group=options["group_id"], chord=options["chord"])


def test_limits_are_those_that_the_pool_keeps():
    """Hidden arguments hide no limits. The hard limit is looked at when the soft one has struck."""
    hidden = limited.apply_async(argsrepr="***", time_limit=4000, soft_time_limit=3000)
    crossed = limited.apply_async(time_limit=5, soft_time_limit=3000)
    for result in (hidden, crossed):
        store(result, "STARTED")
    grow_older(timedelta(seconds=2900))
    assert end_lost_calls() == []
    grow_older(timedelta(seconds=100) + 2 * GRACE)
    assert [call.task_id for call in end_lost_calls()] == [crossed.id]
    grow_older(timedelta(seconds=1000))
    assert [call.task_id for call in end_lost_calls()] == [hidden.id]


def test_a_lost_call_with_options_that_cannot_be_read_here():
    result = limited.delay()
    store(result, "STARTED")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE tasklog_taskcall SET options = %s", ['{"x": {"__type__": "y"}'])
    grow_older()
    assert [call.task_id for call in end_lost_calls()] == [result.id]
