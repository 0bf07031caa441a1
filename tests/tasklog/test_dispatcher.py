"""Sending what waits in the table. No worker: the queue is looked at."""

import threading
from datetime import datetime, timedelta
from unittest.mock import Mock

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from celery import chain, chord, current_app, group, shared_task
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone
from kombu.exceptions import OperationalError

from blog.celery import debug_task, square
from posts.tasks.basics import add
from tasklog import tasks
from tasklog.dispatcher import claim, find_abandoned, send_due_calls
from tasklog.models import SCHEDULED, SCHEDULED_SENT, NotReplayable, TaskCall
from tests.events import listening
from tests.services import wait_for
from tests.tasks import total

pytestmark = pytest.mark.usefixtures("messages")

HOUR = 3600


def only_call():
    return TaskCall.objects.get()


def pass_time(calls=None, **seconds):
    """Move the times of calls into the past, as if they were an hour older."""
    calls = TaskCall.objects.all() if calls is None else calls
    for call in calls:
        for name in ("eta", "claimed_at", "submitted_at", "sent_at"):
            if moment := getattr(call, name):
                setattr(call, name, moment - timedelta(seconds=HOUR))
        call.save()


def test_an_eta_waits_in_the_table(messages):
    result = square.apply_async([5], countdown=HOUR)
    assert result.state == "PENDING"
    call = only_call()
    assert call.status == SCHEDULED
    assert timedelta(minutes=59) < call.eta - timezone.now() <= timedelta(hours=1)
    assert send_due_calls() == 0
    assert messages() == []


def test_a_call_whose_result_nobody_wants_waits_too(messages):
    """It is not tracked, and yet it has a row until it is sent, and after."""
    debug_task.apply_async(countdown=HOUR)
    square.apply_async([5], countdown=HOUR, ignore_result=True)
    calls = TaskCall.objects.order_by("pk")
    assert [call.status for call in calls] == [SCHEDULED, SCHEDULED]
    assert messages() == []
    pass_time()
    assert send_due_calls() == 2
    assert [message["ignore_result"] for message in messages()] == [True, True]
    assert [call.status for call in calls.all()] == [SCHEDULED_SENT, SCHEDULED_SENT]


def test_what_is_due_is_sent_once_with_all_its_options(messages):
    soon = timezone.now() - timedelta(seconds=1)
    result = square.apply_async([5], eta=soon, queue="slow", expires=HOUR, headers={"mark": "x"})
    assert send_due_calls() == 1
    assert send_due_calls() == 0
    [message] = messages("slow")
    assert message["id"] == message["root_id"] == result.id
    assert message["parent_id"] is None
    assert message["eta"] is None
    assert message["mark"] == "x"
    assert message["expires"] == only_call().options["expires"].isoformat()
    assert only_call().status == SCHEDULED_SENT


@shared_task(time_limit=20, soft_time_limit=10, expires=60)
def limited():
    """Has limits of its own."""


@pytest.mark.parametrize("options", [{"countdown": 0.1}, {}])
def test_limits_that_a_call_takes_away_are_gone(messages, options):
    """None is not the same as not said."""
    with transaction.atomic():
        limited.apply_async(time_limit=None, expires=None, **options)
    if options:
        wait_for(send_due_calls, "it to be due")
    [message] = messages()
    assert (message["timelimit"], message["expires"]) == ([None, 10], None)
    only_call().retry()
    assert messages()[1]["timelimit"] == [None, 10]


def test_it_is_the_databases_clock_that_counts(messages, monkeypatch):
    """An application server whose clock is a day fast sends nothing early."""
    tomorrow = timezone.now() + timedelta(days=1)
    square.apply_async([5], countdown=HOUR)
    monkeypatch.setattr("django.utils.timezone.now", lambda: tomorrow)
    monkeypatch.setattr(type(current_app._get_current_object()), "now", lambda self: tomorrow)
    assert send_due_calls() == 0
    square.apply_async([6], countdown=HOUR)
    first, second = TaskCall.objects.order_by("pk")
    assert second.eta - first.eta < timedelta(minutes=1)


def test_a_call_in_a_transaction_waits_only_when_it_is_committed(messages):
    with transaction.atomic():
        square.apply_async([5], countdown=HOUR)
        transaction.set_rollback(True)
    assert not TaskCall.objects.exists()


def test_a_dispatcher_expires_but_not_before_a_long_queue_is_done(messages):
    """A night without workers leaves few of them. A queue of minutes does not keep them all out."""
    tasks.send_due_calls.delay()
    expires = datetime.fromisoformat(messages()[0]["expires"])
    assert timedelta(minutes=30) < expires - timezone.now() <= timedelta(hours=1)


def test_a_canvas_is_sent_whole(messages):
    due = timezone.now() - timedelta(seconds=1)
    chain(square.s(2), square.s()).apply_async(eta=due)
    group(square.s(1), square.s(2)).apply_async(eta=due)
    chord([square.s(1), square.s(2)], total.s()).apply_async(eta=due)
    assert messages() == []
    assert send_due_calls() == 5
    kinds = [
        (bool(call.options.get("chain")), bool(call.options.get("chord")))
        for call in TaskCall.objects.order_by("pk")
    ]
    assert kinds[0] == (True, False)
    assert sorted(kinds[1:]) == [(False, False)] * 2 + [(False, True)] * 2
    assert len({message["group"] for message in messages()}) == 3


def test_monitors_hear_of_all_that_is_sent(messages):
    """Their events go together; Flower and `celery events` see each."""
    for number in range(30):
        square.apply_async([number], countdown=1)
    pass_time()
    heard = []
    with listening({"task-sent": lambda event: heard.append(event["uuid"])}):
        send_due_calls()
        wait_for(lambda: len(heard) >= 30, lambda: f"30 events, not {len(heard)}")
    assert heard == [message["id"] for message in messages()]


def test_a_batch_follows_the_other(messages, tasklog):
    for number in range(5):
        square.apply_async([number], countdown=1)
    pass_time()
    with tasklog(BATCH_SIZE=2):
        assert send_due_calls() == 5
    assert len(messages()) == 5


def test_one_that_cannot_be_sent_holds_up_no_other(messages, caplog):
    for number in range(3):
        square.apply_async([number], countdown=1)
    pass_time()
    middle = TaskCall.objects.order_by("pk")[1]
    TaskCall.objects.filter(pk=middle.pk).update(options={"queue": "gone"})
    assert send_due_calls() == 2
    assert "cannot be sent" in caplog.text
    assert [call.pk for call in TaskCall.objects.stale_scheduled(timedelta())] == [middle.pk]


def test_with_the_broker_away_nothing_is_claimed(broker_away, messages):
    square.apply_async([5], countdown=1)
    pass_time()
    with pytest.raises(OperationalError):
        send_due_calls()
    assert only_call().claimed_at is None
    broker_away.undo()


def break_after(number, monkeypatch, error=OperationalError):
    """Let the broker go away, or the time be over, at the call after ``number`` others."""
    app = current_app._get_current_object()
    calls = []

    def send_call(*args, **kwargs):
        calls.append(args)
        if len(calls) > number:
            raise error("connection closed")
        return type(app).send_call(app, *args, **kwargs)

    monkeypatch.setattr(app, "send_call", send_call)


@pytest.mark.parametrize("error", [OperationalError, SoftTimeLimitExceeded])
def test_the_call_in_the_middle_when_the_broker_goes_away_stays_visible(
    messages, monkeypatch, error
):
    """Nobody knows whether it was sent. The ones after it are sent by the next dispatcher."""
    for number in range(4):
        square.apply_async([number], countdown=1)
    pass_time()
    _sent, torn, *left = TaskCall.objects.order_by("pk")
    break_after(1, monkeypatch, error)
    with pytest.raises(error):
        send_due_calls()
    monkeypatch.undo()
    assert [call.status for call in TaskCall.objects.order_by("pk")] == [
        SCHEDULED_SENT,
        *[SCHEDULED] * 3,
    ]
    assert send_due_calls() == len(left)
    assert list(TaskCall.objects.stale_scheduled(timedelta())) == [torn]
    torn.refresh_from_db()
    assert torn.resend().id == torn.task_id
    assert not TaskCall.objects.stale_scheduled(timedelta()).exists()
    assert len(messages()) == 4


def test_what_the_broker_refuses_stays_due(messages, own_redis, monkeypatch):
    """A Redis without memory says no: nothing was sent, and nobody has to look after it."""
    for number in range(3):
        square.apply_async([number], countdown=1)
    pass_time()
    app = current_app._get_current_object()
    monkeypatch.setattr(app.conf, "broker_write_url", own_redis.url())
    own_redis.client().config_set("maxmemory-policy", "noeviction")
    own_redis.client().config_set("maxmemory", 1)
    for _ in range(2):
        with pytest.raises(OperationalError, match="maxmemory"):
            send_due_calls()
    assert not TaskCall.objects.exclude(claimed_at=None).exists()
    own_redis.client().config_set("maxmemory", 0)
    assert send_due_calls() == 3
    assert own_redis.client().llen("celery") == 3


def test_a_dispatcher_that_is_killed_leaves_what_it_claimed_to_be_seen(start, messages):
    """It stays visible, no dispatcher sends it, and a person can."""
    square.apply_async([5], countdown=1)
    pass_time()
    program = start("python", "-m", "tests.tasklog.programs", "killed_dispatcher")
    assert program.wait(60) == 0, program.output
    call = only_call()
    assert (call.status, bool(call.claimed_at)) == (SCHEDULED, True)
    assert send_due_calls() == 0
    assert list(TaskCall.objects.stale_scheduled(timedelta())) == [call]
    assert messages() == []
    call.resend()
    assert [message["id"] for message in messages()] == [call.task_id]
    assert not TaskCall.objects.stale_scheduled(timedelta()).exists()


def test_a_claimed_call_that_has_run_is_not_stale(messages):
    """Its dispatcher died between sending it and noting that."""
    square.apply_async([5], countdown=1)
    pass_time()
    TaskCall.objects.update(claimed_at=Now())
    assert TaskCall.objects.stale_scheduled(timedelta()).exists()
    current_app.backend.store_result(only_call().task_id, None, "STARTED")
    assert not TaskCall.objects.stale_scheduled(timedelta()).exists()


def test_a_call_that_waits_for_its_eta_is_not_resent(messages):
    square.apply_async([5], countdown=HOUR)
    with pytest.raises(NotReplayable, match="waits for its ETA"):
        only_call().resend()
    assert messages() == []


def test_a_call_that_a_dispatcher_has_just_taken_is_not_resent(messages):
    square.apply_async([5], countdown=1)
    pass_time()
    call = only_call()
    assert send_due_calls() == 1
    with pytest.raises(NotReplayable, match="taken by somebody else"):
        call.resend()
    assert len(messages()) == 1


@pytest.mark.parametrize("field", ["args", "kwargs", "options"])
def test_a_call_that_cannot_be_read_here_keeps_nobody_from_the_others(messages, caplog, field):
    """It has a type that only another process has registered with kombu."""
    for number in range(3):
        square.apply_async([number], countdown=1)
    pass_time()
    middle = TaskCall.objects.order_by("pk")[1]
    unknown = '{"x": {"__type__": "shop.Money", "__value__": "1 EUR"}}'
    with connection.cursor() as cursor:
        sql = f"UPDATE tasklog_taskcall SET {field} = %s WHERE id = %s"
        cursor.execute(sql, [unknown, middle.pk])
    assert send_due_calls() == 2
    assert "cannot be sent" in caplog.text
    [call] = TaskCall.objects.stale_scheduled(timedelta())
    assert (call.pk, getattr(call, field)) == (middle.pk, unknown)
    for again in (call.retry, call.resend):
        with pytest.raises(NotReplayable, match="registered with kombu"):
            again()
    TaskCall.objects.bulk_update([call], [field])
    call.refresh_from_db()
    assert getattr(call, field) == unknown


def test_what_its_process_left_unsent_is_sent_when_it_had_its_time(broker_away, messages, tasklog):
    with transaction.atomic():
        result = square.delay(5)
    broker_away.undo()
    current_app._get_current_object()._pool = None
    current_app.amqp._producer_pool = None
    assert send_due_calls() == 0  # seen for the first time
    assert send_due_calls() == 0  # still within RESEND_AFTER
    pass_time()
    assert send_due_calls() == 1
    assert send_due_calls() == 0
    assert [message["id"] for message in messages()] == [result.id]


def test_what_a_slow_dispatcher_sends_no_other_may_take(messages, monkeypatch):
    """Each call takes ten seconds here: a whole batch would take longer than RESEND_AFTER."""
    TaskCall.objects.bulk_create(
        TaskCall(task_id=f"call-{n}", name=square.name, args=[n], kwargs={}) for n in range(5)
    )
    app, send_call = current_app._get_current_object(), current_app.send_call
    clock = Mock(monotonic=lambda: clock.now, now=0)

    def pass_seconds(seconds):
        clock.now += seconds
        TaskCall.objects.update(claimed_at=F("claimed_at") - timedelta(seconds=seconds))

    def send_slowly(call, *args, **options):
        assert not find_abandoned(TaskCall.objects).filter(pk=call.pk).exists()
        send_call(call, *args, **options)
        pass_seconds(10)

    monkeypatch.setattr("tasklog.dispatcher.time", clock)
    monkeypatch.setattr(app, "send_call", send_slowly)
    find_abandoned(TaskCall.objects)
    sent = []
    while sum(sent) < 5:
        pass_seconds(31)
        sent.append(send_due_calls())
    assert sent == [2, 2, 1]
    assert len({message["id"] for message in messages()}) == len(messages()) == 5


def test_what_was_sent_and_only_not_noted_is_not_sent_again(messages):
    square.delay(5)
    call = only_call()
    current_app.backend.store_result(call.task_id, 25, "SUCCESS")
    TaskCall.objects.update(sent_at=None, claimed_at=Now() - timedelta(hours=1))
    assert send_due_calls() == 0
    assert only_call().sent_at
    assert len(messages()) == 1


def test_dispatchers_share_what_is_due_and_send_nothing_twice(messages, tasklog):
    due = timezone.now() - timedelta(seconds=1)
    TaskCall.objects.bulk_create(
        TaskCall(task_id=f"call-{n}", name=square.name, args=[n], kwargs={}, eta=due)
        for n in range(400)
    )
    sent = []

    def dispatch():
        try:
            sent.append(send_due_calls())
        finally:
            connection.close()

    with tasklog(BATCH_SIZE=7):
        threads = [threading.Thread(target=dispatch) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ids = [message["id"] for message in messages()]
    assert sum(sent) == len(ids) == len(set(ids)) == 400


def test_a_claim_is_for_one(messages):
    square.apply_async([1], countdown=1)
    pass_time()
    assert len(claim(TaskCall.objects.due())) == 1
    assert claim(TaskCall.objects.due()) == []


def test_revoked_before_its_eta_it_is_never_sent(messages):
    result = square.apply_async([5], countdown=HOUR)
    result.revoke()
    pass_time()
    pass_time()
    assert send_due_calls() == 0
    assert messages() == []
    assert only_call().status == result.state == "REVOKED"
    assert not TaskCall.objects.stale(timedelta()).exists()


def test_a_call_is_made_again_with_equal_arguments_queue_expiry_and_links(messages):
    first = add.apply_async([1], {"y": 2}, queue="slow", expires=60, link=square.s())
    call = only_call()
    second = call.retry()
    again = TaskCall.objects.get(task_id=second.id)
    assert second.id != first.id
    assert (again.args, again.kwargs, again.queue) == ([1], {"y": 2}, "slow")
    assert again.options["link"]["task"] == square.name
    assert timedelta(0) < again.options["expires"] - timezone.now() <= timedelta(seconds=60)
    assert again.retry_of == call
    assert list(call.retries.all()) == [again]
    assert messages("slow")[1]["root_id"] == second.id


def test_what_has_ended_is_not_sent_again_under_its_id(messages):
    square.delay(5)
    current_app.backend.store_result(only_call().task_id, 25, "SUCCESS")
    with pytest.raises(ValueError, match="has ended: SUCCESS"):
        only_call().resend()


def test_stale_calls_are_those_that_are_silent(messages):
    waiting, started, done = (square.delay(n) for n in range(3))
    current_app.backend.store_result(started.id, {}, "STARTED")
    current_app.backend.store_result(done.id, 1, "SUCCESS")
    later = square.apply_async([9], countdown=5 * HOUR)
    assert not TaskCall.objects.stale(timedelta(minutes=1)).exists()
    pass_time()
    TaskCall.objects.get(task_id=started.id).result._meta.model.objects.update(
        date_done=Now() - timedelta(minutes=30)
    )
    stale = TaskCall.objects.stale(timedelta(minutes=1))
    assert [call.task_id for call in stale] == [waiting.id, started.id]
    assert [c.task_id for c in TaskCall.objects.stale(timedelta(minutes=40))] == [waiting.id]
    [alone] = TaskCall.objects.stale(timedelta(minutes=1), acceptable_states=["STARTED"])
    assert alone.task_id == waiting.id
    assert later.id not in [call.task_id for call in stale]


def test_calls_by_state(messages):
    square.delay(1)
    square.apply_async([2], countdown=HOUR)
    done = square.delay(3)
    current_app.backend.store_result(done.id, 9, "SUCCESS")
    assert [c.args for c in TaskCall.objects.in_state("PENDING")] == [[1]]
    assert [c.args for c in TaskCall.objects.in_state("SCHEDULED", "SUCCESS").order_by("pk")] == [
        [2],
        [3],
    ]
    assert TaskCall.objects.get(result__status="SUCCESS").result.call.args == [3]


def test_with_its_result_goes_the_call(messages):
    result = square.delay(3)
    current_app.backend.store_result(result.id, 9, "SUCCESS")
    result.forget()
    assert not TaskCall.objects.exists()
