"""The commands: what they print, what they do, and the exit statuses that cron looks at."""

import io
import json
from datetime import timedelta

import pytest
from celery import current_app, states
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from django_celery_results.models import TaskResult

from blog.celery import square
from posts.tasks.basics import add
from tasklog.models import TaskCall
from tests.services import BIN

pytestmark = pytest.mark.usefixtures("messages")

HOUR = timedelta(hours=1)


class Outcome:
    """What a command has printed, and its exit status."""

    def __init__(self, *command, **options):
        out, err = io.StringIO(), io.StringIO()
        self.status, self.error = 0, ""
        try:
            call_command(*command, stdout=out, stderr=err, **options)
        except CommandError as error:
            self.status, self.error = error.returncode, str(error)
        self.lines = [line.split("\t") for line in out.getvalue().splitlines()]
        self.text, self.summary = out.getvalue(), err.getvalue()

    @property
    def objects(self):
        return [json.loads(line) for line in self.text.splitlines()]


def store(result, state, value=None):
    current_app.backend.store_result(result.id, value, state)


def fail(*results):
    for result in results:
        store(result, "FAILURE", ValueError("no"))


def pass_an_hour():
    TaskCall.objects.update(
        eta=F("eta") - HOUR,
        claimed_at=F("claimed_at") - HOUR,
        submitted_at=F("submitted_at") - HOUR,
        sent_at=F("sent_at") - HOUR,
    )
    TaskResult.objects.update(date_done=F("date_done") - HOUR)


# As SQLite's Now() writes it.
MOMENTS = ["2026-01-31 10:00:00.123", "2026-01-31 10:00:00.000"]


def set_moments(column, moment):
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE tasklog_taskcall SET {column} = %s", [moment])


# --- find_stale_tasks ---------------------------------------------------------------------------


def test_nothing_is_stale():
    square.delay(1)
    found = Outcome("find_stale_tasks", "--minutes", "30")
    assert (found.status, found.text, found.error) == (0, "", "")


def test_stale_calls_are_listed():
    waiting, started = square.delay(1), square.delay(2)
    store(started, "STARTED")
    store(square.delay(3), "SUCCESS")
    pass_an_hour()
    found = Outcome("find_stale_tasks", "--minutes", "30")
    assert found.status == 1
    assert found.error == "Stale calls: 2"
    assert [line[:3] for line in found.lines] == [
        [waiting.id, square.name, "PENDING"],
        [started.id, square.name, "STARTED"],
    ]
    since = timezone.datetime.fromisoformat(found.lines[0][3])
    assert since == TaskCall.objects.get(task_id=waiting.id).sent_at.replace(microsecond=0)


def test_stale_calls_as_json():
    waiting = square.delay(1)
    pass_an_hour()
    [found] = Outcome("find_stale_tasks", "--hours", "0.5", "--json").objects
    since = found.pop("since")
    assert timezone.datetime.fromisoformat(since).tzinfo
    assert found == {"id": waiting.id, "task": square.name, "state": "PENDING"}


def test_a_state_can_be_fine_for_ever():
    store(square.delay(1), "STARTED")
    store(square.delay(1), "RETRY", ValueError())
    pass_an_hour()
    options = ["--terminal-state", "STARTED", "--terminal-state", "retry"]
    assert Outcome("find_stale_tasks", "--minutes", "30").status == 1
    assert Outcome("find_stale_tasks", "--minutes", "30", *options).status == 0


def test_the_parts_of_an_age_are_added_up():
    square.delay(1)
    pass_an_hour()
    assert Outcome("find_stale_tasks", "--minutes", "59", "--seconds", "30").status == 1
    assert Outcome("find_stale_tasks", "--minutes", "59", "--seconds", "90").status == 0


@pytest.mark.parametrize("age", [[], ["--minutes=-5"], ["--days=nan"], ["--weeks=1e12"]])
@pytest.mark.parametrize(
    "command", ["find_stale_tasks", "find_stale_scheduled_tasks", "clean_up_calls"]
)
def test_without_a_sensible_age_nothing_is_done(command, age):
    outcome = Outcome(command, *age)
    assert outcome.status == 2
    assert "--minutes 30" in outcome.error or "no age" in outcome.error


def test_stale_calls_that_no_worker_has_begun_are_sent(messages):
    """Their message was lost. What a worker has begun is somebody else's matter."""
    lost, started, unsent = square.delay(1), square.delay(2), square.delay(3)
    store(started, "STARTED")
    TaskCall.objects.filter(task_id=unsent.id).update(sent_at=None)
    pass_an_hour()
    found = Outcome("find_stale_tasks", "--minutes", "30", "--resend")
    assert (found.status, found.error, found.summary) == (1, "Stale calls: 2", "1 sent.\n")
    refused = {line[0]: line[4] for line in found.lines if len(line) > 4}
    assert "end_lost_calls" in refused.pop(started.id)
    assert "send_due_calls" in refused.pop(unsent.id)
    assert refused == {}
    assert [message["id"] for message in messages()][3:] == [lost.id]
    again = Outcome("find_stale_tasks", "--minutes", "30", "--terminal-state", "STARTED")
    assert [line[0] for line in again.lines] == [unsent.id]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stale_call_is_sent_whatever_the_database_makes_of_the_moment(messages, moment):
    """SQLite keeps Now() as a text which is not the one that it gets for the same moment."""
    square.delay(1)
    pass_an_hour()
    set_moments("sent_at", moment)
    found = Outcome("find_stale_tasks", "--minutes", "30", "--resend")
    assert (found.status, found.summary) == (0, "1 sent.\n")


def test_a_stale_call_that_somebody_else_sends_is_not_sent_twice(messages, monkeypatch):
    square.delay(1)
    pass_an_hour()
    from tasklog.management.commands.find_stale_tasks import Command

    resend = Command.resend

    def another_is_faster(self, call):
        TaskCall.objects.get().resend()
        return resend(self, call)

    monkeypatch.setattr(Command, "resend", another_is_faster)
    found = Outcome("find_stale_tasks", "--minutes", "30", "--resend")
    assert found.status == 1
    assert "taken by somebody else" in found.text
    assert len(messages()) == 2  # the first time, and the other's


def test_with_the_broker_away_stale_calls_stay_stale(broker_away):
    square.delay(1)
    TaskCall.objects.update(sent_at=timezone.now())
    pass_an_hour()
    before = TaskCall.objects.get().sent_at
    found = Outcome("find_stale_tasks", "--minutes", "30", "--resend")
    assert found.status == 1
    assert "broker" in found.error
    assert TaskCall.objects.get().sent_at == before


# --- find_stale_scheduled_tasks -----------------------------------------------------------------


def make_overdue(number=1):
    """Calls whose ETA passed half an hour ago."""
    results = [square.apply_async([n], countdown=1800) for n in range(number)]
    pass_an_hour()
    return results


def test_overdue_calls_are_listed(messages):
    [result] = make_overdue()
    square.apply_async([1], countdown=60)
    assert Outcome("find_stale_scheduled_tasks", "--hours", "1").status == 0
    found = Outcome("find_stale_scheduled_tasks", "--minutes", "10")
    assert found.status == 1
    [[task_id, name, eta]] = found.lines
    assert (task_id, name) == (result.id, square.name)
    assert timezone.datetime.fromisoformat(eta) < timezone.now()
    assert messages() == []


def test_overdue_calls_are_sent(messages):
    results = make_overdue(3)
    found = Outcome("find_stale_scheduled_tasks", "--minutes", "10", "--resend")
    assert (found.status, found.summary) == (0, "3 sent.\n")
    assert [message["id"] for message in messages()] == [result.id for result in results]
    assert Outcome("find_stale_scheduled_tasks", "--minutes", "10").status == 0


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_overdue_call_that_was_claimed_is_sent(messages, moment):
    """Its dispatcher was cut off."""
    [result] = make_overdue()
    set_moments("claimed_at", moment)
    found = Outcome("find_stale_scheduled_tasks", "--minutes", "10", "--resend")
    assert (found.status, found.summary) == (0, "1 sent.\n")
    assert [message["id"] for message in messages()] == [result.id]


def test_an_overdue_call_that_cannot_be_sent_is_named_with_its_reason(messages):
    make_overdue(2)
    first, second = TaskCall.objects.order_by("pk")
    TaskCall.objects.filter(pk=first.pk).update(options={"queue": "gone"})
    found = Outcome("find_stale_scheduled_tasks", "--minutes", "10", "--resend", "--json")
    assert found.status == 1
    assert ["gone" in (line["refused"] or "") for line in found.objects] == [True, False]
    assert [message["id"] for message in messages()] == [second.task_id]


def test_what_a_dispatcher_takes_in_this_moment_is_not_sent_twice(messages, monkeypatch):
    make_overdue()
    from tasklog.management.commands.find_stale_scheduled_tasks import Command

    resend = Command.resend

    def dispatcher_is_faster(self, call):
        call_command("send_due_calls", stdout=io.StringIO())
        return resend(self, call)

    monkeypatch.setattr(Command, "resend", dispatcher_is_faster)
    found = Outcome("find_stale_scheduled_tasks", "--minutes", "10", "--resend")
    assert found.status == 1
    assert "taken by somebody else" in found.text
    assert len(messages()) == 1


def test_with_the_broker_away_overdue_calls_stay(broker_away):
    make_overdue()
    found = Outcome("find_stale_scheduled_tasks", "--minutes", "10", "--resend")
    assert found.status == 1
    assert "broker" in found.error
    broker_away.undo()
    assert TaskCall.objects.get().sent_at is None


# --- retry_tasks --------------------------------------------------------------------------------


def test_calls_are_retried_by_id(messages):
    first, second = square.delay(1), square.apply_async([2], queue="slow")
    outcome = Outcome("retry_tasks", second.id, first.id)
    assert outcome.status == 0
    assert outcome.summary == "2 retried, 0 refused.\n"
    assert [line[0] for line in outcome.lines] == [second.id, first.id]
    new = outcome.lines[0][1]
    assert TaskCall.objects.get(task_id=new).retry_of.task_id == second.id
    assert [message["id"] for message in messages("slow")] == [second.id, new]


def test_what_cannot_be_retried_is_named_with_its_reason(messages):
    hidden, good = square.apply_async([1], argsrepr="***"), square.delay(1)
    outcome = Outcome("retry_tasks", hidden.id, "unknown", good.id, "--json")
    assert outcome.status == 1
    assert outcome.error == "Refused: 2"
    refused = [line["refused"] for line in outcome.objects]
    assert "hides its arguments" in refused[0]
    assert refused[1:] == ["there is no such call", None]
    assert outcome.objects[2]["retried_as"]


@pytest.fixture
def failures():
    """Three failures, the first two of `square`, and a success."""
    results = [square.delay(1), square.delay(2), add.delay(1, 2)]
    fail(*results)
    store(square.delay(3), "SUCCESS")
    return results


def retried(outcome):
    return [line["id"] for line in outcome.objects if line["retried_as"]]


def test_filters_find_failures(failures):
    found = Outcome("retry_tasks", "--name", square.name, "--yes", "--json")
    assert found.status == 0
    assert retried(found) == [result.id for result in failures[:2]]
    assert TaskCall.objects.count() == 6


def test_a_second_run_does_not_repeat_the_first(failures):
    TaskCall.objects.get(task_id=failures[0].id).retry()
    rest = Outcome("retry_tasks", "--state", "failure", "--yes", "--json")
    assert retried(rest) == [result.id for result in failures[1:]]
    assert Outcome("retry_tasks", "--state", "FAILURE", "--yes").text == ""


def test_filters_by_state_queue_and_time(failures):
    success = TaskCall.objects.get(result__status="SUCCESS")
    slow = square.apply_async([1], queue="slow")
    fail(slow)
    pass_an_hour()
    late = square.delay(1)
    fail(late)
    middle = timezone.localtime(timezone.now() - HOUR / 2).isoformat()

    def found(*options):
        outcome = Outcome("retry_tasks", *options, "--dry-run", "--json")
        return [line["id"] for line in outcome.objects]

    assert found("--state", states.SUCCESS) == [success.task_id]
    assert found("--queue", "slow") == [slow.id]
    assert found("--since", middle) == [late.id]
    assert found("--until", middle) == [*[result.id for result in failures], slow.id]
    assert found("--since", middle, "--queue", "slow") == []
    assert len(found("--since", "2020-01-01", "--state", "SUCCESS", "--state", "FAILURE")) == 6


def test_a_dry_run_changes_nothing(failures, messages):
    before = len(messages())
    fail(square.apply_async([1], argsrepr="***"))
    outcome = Outcome("retry_tasks", "--state", "FAILURE", "--dry-run")
    assert outcome.status == 1
    assert "3 would be retried, 1 refused." in outcome.summary
    assert len(messages()) == before + 1
    assert TaskCall.objects.count() == 5


def test_many_are_retried_only_when_asked_for(failures):
    outcome = Outcome("retry_tasks", "--state", "FAILURE")
    assert outcome.status == 2
    assert "3 calls would be retried" in outcome.error
    assert TaskCall.objects.count() == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "or filters (--name"),
        (["id", "--name", "x"], "not both"),
        (["--since", "yesterday"], "invalid time value: 'yesterday'"),
        (["--since", "2026-02-30"], "invalid time value: '2026-02-30'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    outcome = Outcome("retry_tasks", *arguments)
    assert outcome.status != 0
    assert message in outcome.error


def test_with_the_broker_away_a_retry_waits_or_is_refused(broker_away, tasklog):
    fail(square.delay(1))
    assert Outcome("retry_tasks", "--state", "FAILURE", "--yes").status == 0
    assert TaskCall.objects.latest("pk").sent_at is None
    with tasklog(TRACK=True):
        outcome = Outcome("retry_tasks", TaskCall.objects.earliest("pk").task_id)
    assert outcome.status == 1
    assert "The broker is away" in outcome.error
    assert outcome.summary == "0 retried, 0 refused.\n"


# --- The others ---------------------------------------------------------------------------------


def test_due_calls_are_sent(messages, broker_away):
    make_overdue(2)
    outcome = Outcome("send_due_calls")
    assert (outcome.status, outcome.error[:19]) == (1, "The broker is away:")
    broker_away.undo()
    current_app._get_current_object()._pool = current_app.amqp._producer_pool = None
    assert Outcome("send_due_calls").text == "2 sent.\n"
    assert Outcome("send_due_calls").text == "0 sent.\n"
    assert len(messages()) == 2


def test_old_calls_are_deleted():
    results = [square.delay(n) for n in range(3)]
    store(results[0], "SUCCESS")
    fail(results[1])
    pass_an_hour()
    assert Outcome("clean_up_calls", "--days", "1").text == "0 deleted.\n"
    assert Outcome("clean_up_calls", "--minutes", "5", "--state", "FAILURE").text == "1 deleted.\n"
    assert Outcome("clean_up_calls", "--minutes", "5").text == "1 deleted.\n"
    assert TaskCall.objects.get().task_id == results[2].id
    assert "invalid choice: 'PENDING'" in Outcome("clean_up_calls", "--state", "PENDING").error


def test_lost_calls_are_ended():
    assert Outcome("end_lost_calls").status == 0
    result = square.delay(1)
    store(result, "STARTED")
    pass_an_hour()
    assert Outcome("end_lost_calls", "--grace", "7200").status == 0
    outcome = Outcome("end_lost_calls", "--json")
    assert (outcome.status, outcome.error) == (1, "Lost calls, now FAILURE: 1")
    assert [line["id"] for line in outcome.objects] == [result.id]
    assert result.state == "FAILURE"


def test_the_shell_sees_the_exit_status(start):
    """As cron runs it: a process. Lines on standard output, and 1 where there are some."""
    with transaction.atomic():
        result = square.delay(1)
    pass_an_hour()
    python = BIN / "python"
    found = start(python, "manage.py", "find_stale_tasks", "--minutes", "30")
    assert (found.wait(), found.output.split("\t")[0]) == (1, result.id)
    assert start(python, "manage.py", "find_stale_tasks", "--minutes", "90").wait() == 0
    assert start(python, "manage.py", "find_stale_tasks").wait() == 2


def test_what_was_deleted_as_json():
    store(square.delay(1), "SUCCESS")
    pass_an_hour()
    assert Outcome("clean_up_calls", "--minutes", "5", "--json").objects == [{"deleted": 1}]


def test_a_grace_that_is_no_number():
    assert "--grace" in Outcome("end_lost_calls", "--grace", "nan").error
