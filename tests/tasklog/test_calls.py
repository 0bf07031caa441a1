"""What is written down of a call, and when it is sent. No worker: the queue is looked at."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from celery import chain, current_app, group, shared_task
from celery.exceptions import QueueNotFound
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from kombu.exceptions import EncodeError, OperationalError

from blog.celery import debug_task, square
from tasklog import LoggedTask
from tasklog.dispatcher import send_due_calls
from tasklog.models import NotReplayable, TaskCall

pytestmark = pytest.mark.usefixtures("messages")


def only_call():
    return TaskCall.objects.get()


def test_a_call_is_in_the_table_with_all_that_was_asked_for(messages):
    expires = datetime(2100, 1, 1, tzinfo=UTC)
    result = square.apply_async([5], queue="slow", priority=0, expires=expires)
    call = only_call()
    assert call.task_id == result.id == messages("slow")[0]["id"]
    assert (call.name, call.args, call.kwargs, call.queue) == (square.name, [5], {}, "slow")
    assert call.options["priority"] == 0
    assert call.options["expires"] == expires
    assert call.status == result.state == "PENDING"
    assert call.submitted_at <= call.sent_at


def test_a_call_costs_one_statement():
    with CaptureQueriesContext(connection) as queries:
        square.delay(5)
    assert len(queries) == 1


@pytest.mark.parametrize(
    "value",
    [
        1,
        -1.5,
        "line\nbreak, «Ünïcode» 🦉 \"quotes\" 'too'",
        "x" * 5000,
        "\x00",
        None,
        True,
        [1, [2, [3, [4, [5]]]]],
        {"a": {"b": {"c": [None, False]}}},
        datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        date(2026, 1, 2),
        time(3, 4, 5),
        Decimal("1.10"),
        UUID(int=7),
        b"bytes",
        b"\xff\xfe",
    ],
)
def test_arguments_come_back_as_they_were(value):
    square.delay(value)
    call = only_call()
    assert call.args == [value]
    assert type(call.args[0]) is type(value)


@pytest.mark.parametrize(
    ("args", "kwargs", "named"),
    [
        ([1, {2}], {}, "argument 2, a set"),
        ([], {"n": timedelta(1)}, "argument 'n', a timedelta"),
        ([], {"n": {"deep": [object()]}}, "argument 'n', a dict"),
        ([{"__type__": "mine", "__value__": 1}], {}, "argument 1, a dict"),
        ([], {"n": [{"__type__": "decimal", "__value__": "no number"}]}, "argument 'n', a list"),
    ],
)
def test_an_argument_that_json_cannot_carry_is_named(args, kwargs, named):
    with pytest.raises(EncodeError, match=f"blog.celery.square was not called: {named}"):
        current_app.send_task(square.name, args, kwargs)
    assert not TaskCall.objects.exists()


def test_a_queue_that_does_not_exist_is_refused_at_the_call():
    with pytest.raises(QueueNotFound, match="fast"), transaction.atomic():
        square.apply_async([5], queue="fast")
    assert not TaskCall.objects.exists()


def test_without_settings_nothing_is_recorded(tasklog, messages):
    with tasklog():
        square.delay(5)
        square.apply_async([5], countdown=60)
    assert not TaskCall.objects.exists()
    assert [message["eta"] is None for message in messages()] == [True, False]


def test_a_task_that_ignores_its_result_is_tracked_when_asked(tasklog):
    with tasklog(TRACK=True):
        debug_task.delay()
        square.apply_async([5], ignore_result=True)
        assert not TaskCall.objects.exists()
        debug_task.apply_async(track=True)
    assert only_call().ignore_result


@shared_task(base=LoggedTask)
def logged():
    """Wants all of tasklog."""


@shared_task(track=False)
def untracked():
    """Wants none of it."""


def test_task_and_call_choose_for_themselves(tasklog, messages):
    with tasklog():
        logged.delay()
        square.apply_async([5], track=True)
        logged.apply_async(countdown=60)
    assert [call.name for call in TaskCall.objects.order_by("pk")] == [
        logged.name,
        square.name,
        logged.name,
    ]
    assert len(messages()) == 2
    with tasklog(TRACK=True):
        untracked.delay()
        square.apply_async([5], track=False)
    assert TaskCall.objects.count() == 3


def test_in_a_transaction_a_call_is_sent_on_commit(messages):
    with transaction.atomic():
        result = square.delay(5)
        assert result.id
        assert only_call().sent_at is None
        assert messages() == []
    assert [message["id"] for message in messages()] == [result.id]
    assert only_call().sent_at


def test_waiting_in_the_transaction_that_sends_the_call_would_never_end(messages):
    with transaction.atomic():
        result = square.delay(5)
        with pytest.raises(TransactionManagementError, match="is sent when this transaction"):
            result.get(timeout=5)
        both = group(square.s(1), square.s(2)).delay()
        with pytest.raises(TransactionManagementError, match="is sent when this transaction"):
            both.get(timeout=5)


def test_what_celery_asks_itself_is_no_call(messages):
    """With results in a cache, this task looks each second whether a chord has ended."""
    current_app.send_task("celery.chord_unlock", ["group", {}], countdown=1)
    assert not TaskCall.objects.exists()
    assert messages()[0]["eta"]


def test_a_rollback_takes_the_call_back(messages):
    with transaction.atomic():
        square.delay(5)
        transaction.set_rollback(True)
    assert messages() == []
    assert not TaskCall.objects.exists()


def test_a_savepoint_that_is_rolled_back_takes_its_calls_back(messages):
    with transaction.atomic():
        kept = square.delay(1)
        with transaction.atomic():
            square.delay(2)
            transaction.set_rollback(True)
    assert [message["id"] for message in messages()] == [kept.id]


def test_the_message_is_what_the_arguments_were_at_the_call(messages, redis_server):
    numbers = [1]
    with transaction.atomic():
        square.delay(numbers)
        numbers.append(2)
    assert only_call().args == [[1]]


def test_with_the_broker_away_a_call_waits(broker_away, messages):
    with transaction.atomic():
        first = square.delay(1)
    second = square.delay(2)
    third = debug_task.delay()
    unsent = TaskCall.objects.unsent().order_by("pk")
    assert [call.task_id for call in unsent] == [first.id, second.id, third.id]


def test_without_an_outbox_a_call_says_that_the_broker_is_away(broker_away, tasklog):
    """It stays in the table, for whoever looks. Nobody sends it: the caller knows."""
    with tasklog(TRACK=True), pytest.raises(OperationalError):
        square.delay(1)
    assert only_call().status == "PENDING"
    assert not TaskCall.objects.unsent().exists()


def test_a_group_is_sent_on_commit(messages):
    with transaction.atomic():
        result = group(square.s(1), square.s(2)).delay()
    assert [m["id"] for m in messages()] == [child.id for child in result.children]


def test_of_eta_and_countdown_the_countdown_counts(messages, tasklog):
    """As in Celery's own messages."""
    later = timezone.now() + timedelta(days=9)
    square.apply_async([5], countdown=60, eta=later)
    assert only_call().eta < timezone.now() + timedelta(minutes=2)
    with tasklog(TRACK=True):
        square.apply_async([5], countdown=60, eta=later)
    assert TaskCall.objects.last().options["eta"] < timezone.now() + timedelta(minutes=2)


def test_of_many_calls_without_a_broker_one_waits_for_it(broker_away, caplog):
    """The others would each wait as long. All are in the table."""
    group(square.s(n) for n in range(3)).delay()
    with transaction.atomic():
        group(square.s(n) for n in range(3)).delay()
    assert TaskCall.objects.filter(sent_at=None).count() == 6
    assert caplog.text.count("The broker is away") == 1
    broker_away.undo()
    TaskCall.objects.update(claimed_at=timezone.now() - timedelta(hours=1))
    assert send_due_calls() == 6


def test_a_broker_that_was_away_is_tried_again_after_a_pause(broker_away, messages):
    broker_away.setattr("tasklog.app.PAUSE", 0)
    square.delay(1)
    broker_away.undo()
    app = current_app._get_current_object()
    app._pool = app.amqp._producer_pool = None
    square.delay(2)
    assert len(messages()) == 1


def test_a_chain_keeps_its_links(messages):
    with transaction.atomic():
        chain(square.s(2), square.s()).delay()
    [call] = TaskCall.objects.all()
    assert call.options["chain"][0]["task"] == square.name


def test_hidden_arguments_are_not_stored(messages, tasklog):
    with transaction.atomic():
        result = square.apply_async(["secret"], argsrepr="('***',)", priority=0)
    call = only_call()
    assert call.args is call.kwargs is None
    limits = {"time_limit": 300, "soft_time_limit": 240}
    assert call.options == {"argsrepr": "('***',)", "priority": 0, "queue": "celery", **limits}
    assert messages()[0]["id"] == result.id
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM tasklog_taskcall")
        assert "secret" not in str(cursor.fetchall())
    for again in (call.retry, call.resend):
        with pytest.raises(NotReplayable, match="hides its arguments"):
            again()


def test_a_secret_in_a_link_is_not_stored(messages):
    chain(square.s(2), square.s("secret").set(kwargsrepr="{}")).delay()
    call = only_call()
    assert call.args is None
    assert "chain" not in call.options


def test_hidden_arguments_do_not_wait_in_the_table(messages):
    square.apply_async(["secret"], countdown=60, argsrepr="('***',)")
    assert messages()[0]["eta"]
    assert only_call().sent_at


def test_a_call_that_is_made_again_under_its_id_replaces_the_row(messages):
    result = square.delay(1)
    square.apply_async([2], task_id=result.id)
    assert only_call().args == [2]
    assert len(messages()) == 2


def test_a_call_that_is_made_again_in_a_transaction_is_sent_on_commit(messages):
    square.delay(1)
    with transaction.atomic():
        again = only_call().retry()
        assert len(messages()) == 1
    assert messages()[1]["id"] == again.id
