"""The admin's pages of calls, results and periodic tasks. No worker: the queue is looked at."""

import json
import re
from datetime import timedelta

import django_celery_beat.admin
import django_celery_results.admin
import pytest
from celery import current_app, states
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, reverse
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult

from blog.celery import square
from posts.tasks.basics import add
from tasklog import changelist, highlight
from tasklog.admin import STATES, TaskCallAdmin, TaskResultAdmin
from tasklog.models import SCHEDULED, SCHEDULED_SENT, TaskCall

pytestmark = pytest.mark.usefixtures("messages")

LIST = "/admin/tasklog/taskcall/"
RESULTS = "/admin/django_celery_results/taskresult/"
PERIODIC = "/admin/django_celery_beat/periodictask/"
HOUR = 3600

# A second admin site, under its own name.
ops = admin.AdminSite(name="ops")
ops.register(TaskCall, TaskCallAdmin)
urlpatterns = [path("", include("blog.urls")), path("ops/", ops.urls)]


@pytest.fixture
def browser(admin_user):
    """Somebody who may do everything."""
    client = Client()
    client.force_login(admin_user)
    return client


@pytest.fixture
def colleague(django_user_model):
    """Somebody who may do what is named: ``colleague("view_taskcall")``."""

    def make(*permissions):
        user = django_user_model.objects.create_user(f"colleague{len(permissions)}", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture
def permissions(transactional_db):
    """What migrations create, and the tests' database has lost."""
    from django.apps import apps
    from django.contrib.auth.management import create_permissions

    create_permissions(apps.get_app_config("tasklog"), verbosity=0)
    create_permissions(apps.get_app_config("django_celery_beat"), verbosity=0)


def store(result, state, value=None, **kwargs):
    current_app.backend.store_result(result.id, value, state, **kwargs)


def listed(browser, **query):
    """The task ids of a page of calls, in order."""
    page = browser.get(LIST, query)
    assert page.status_code == 200
    return [call.task_id for call in page.context["cl"].result_list]


def detail(browser, task_id):
    call = TaskCall.objects.get(task_id=task_id)
    return browser.get(f"{LIST}{call.pk}/change/").content.decode()


def act(browser, action, *results, **fields):
    """Choose an action for calls. Returns what the next page says."""
    chosen = TaskCall.objects.filter(task_id__in=[result.id for result in results])
    data = {"action": action, "_selected_action": [call.pk for call in chosen], **fields}
    page = browser.post(LIST, {"index": 0, **data}, follow=True)
    assert page.status_code == 200
    return [str(message) for message in page.context["messages"]]


@pytest.fixture
def one_of_each():
    """A call in each state, by its state, in the order of STATES."""
    calls = {}
    for state in STATES:
        later = {"countdown": HOUR} if state in (SCHEDULED, SCHEDULED_SENT) else {}
        calls[state] = square.apply_async([1], **later)
        if state not in (SCHEDULED, SCHEDULED_SENT, states.PENDING):
            store(calls[state], state, ValueError("no") if state == "FAILURE" else None)
    sent = TaskCall.objects.filter(task_id=calls[SCHEDULED_SENT].id)
    sent.update(sent_at=timezone.now(), eta=timezone.now())
    return calls


# --- The list -----------------------------------------------------------------------------------


def test_the_list_shows_calls_and_results_the_latest_first(browser, one_of_each):
    page = browser.get(LIST)
    assert listed(browser) == [result.id for result in reversed(one_of_each.values())]
    text = page.content.decode()
    for state in STATES:
        assert f'<span class="tasklog-state tasklog-{state.lower()}">{state}</span>' in text
    assert square.name in text
    assert "9 calls" in text


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_filtered(browser, one_of_each, state):
    assert listed(browser, state=state) == [one_of_each[state].id]


def test_each_filter_offers_what_there_is_without_asking_the_rows(browser, monkeypatch):
    square.apply_async([1], queue="slow")
    with CaptureQueriesContext(connection) as queries:
        text = browser.get(LIST).content.decode()
    for choice in ("?state=FAILURE", "?queue=slow", f"?name={square.name}"):
        assert choice in text
    assert "DISTINCT" not in str(queries.captured_queries)


def test_filters_go_together(browser):
    slow, fast = square.apply_async([1], queue="slow"), square.delay(2)
    other = add.apply_async([1, 2], queue="slow")
    for result in (slow, fast, other):
        store(result, "SUCCESS")
    assert listed(browser, name=square.name) == [fast.id, slow.id]
    assert listed(browser, queue="slow") == [other.id, slow.id]
    assert listed(browser, queue="slow", state="SUCCESS", name=square.name) == [slow.id]
    assert listed(browser, queue="slow", state="FAILURE") == []
    assert listed(browser, queue="slow", q=square.name) == [slow.id]
    assert listed(browser, name=square.name, q=add.name) == []


def test_search_knows_ids_and_names(browser):
    first, second, third = square.delay(1), add.delay(1, 2), square.delay(3)
    gone = current_app.send_task("gone.task", track=True)
    assert listed(browser, q=second.id) == [second.id]
    assert listed(browser, q=f" {square.name} ") == [third.id, first.id]
    assert listed(browser, q="square") == [third.id, first.id]
    assert listed(browser, q="gone.task") == [gone.id]
    assert listed(browser, q="quare") == []
    assert listed(browser, q=first.id[:8]) == []
    assert listed(browser, q=first.id, state="FAILURE") == []


def test_scheduled_calls_stand_in_the_order_of_their_eta(browser):
    later, sooner = square.apply_async([1], countdown=HOUR), square.apply_async([1], countdown=60)
    assert listed(browser, state=SCHEDULED) == [sooner.id, later.id]


def test_ended_calls_stand_in_the_order_in_which_they_ended(browser):
    first, second = square.delay(1), square.delay(2)
    store(second, "SUCCESS")
    store(first, "SUCCESS")
    assert listed(browser, state="SUCCESS") == [first.id, second.id]


def test_a_result_without_a_call_is_spoken_of(browser, tasklog):
    tracked = square.delay(1)
    with tasklog():
        untracked = square.delay(2)
    for result in (tracked, untracked):
        store(result, "SUCCESS")
    assert listed(browser, state="SUCCESS") == [tracked.id]
    page = browser.get(LIST, {"state": "SUCCESS"}).content.decode()
    assert "1 of this page were not written down" in page
    assert "not written down" not in browser.get(LIST).content.decode()


def test_a_row_costs_no_statement(browser):
    square.delay(1)
    counts = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            browser.get(LIST)
        counts.append(len(queries))
        for number in range(20):
            store(square.delay(number), "SUCCESS")
    assert counts[0] == counts[1] <= 6


def test_the_list_does_not_read_what_can_be_large(browser):
    store(square.delay(1), "SUCCESS")
    with CaptureQueriesContext(connection) as queries:
        browser.get(LIST)
    assert '"tasklog_taskcall"."args"' not in str(queries.captured_queries)
    assert '"django_celery_results_taskresult"."result"' not in str(queries.captured_queries)


def test_not_more_is_read_and_paged_than_somebody_leafs_through(browser, monkeypatch):
    monkeypatch.setattr(changelist, "PAGED", 10)
    monkeypatch.setattr(TaskCallAdmin, "list_per_page", 5)
    ids = [square.delay(n).id for n in range(10)][::-1]
    assert "10 calls" in browser.get(LIST).content.decode()
    newest = square.delay(10).id
    with CaptureQueriesContext(connection) as queries:
        page = browser.get(LIST, {"p": 2})
    assert "COUNT" not in str(queries.captured_queries)
    assert "LIMIT 11" in str(queries.captured_queries)
    assert [call.task_id for call in page.context["cl"].result_list] == ids[4:9]
    if connection.vendor == "sqlite":
        assert "10+ calls" in page.content.decode()
    assert "10+ calls" in browser.get(LIST, {"q": square.name}).content.decode()
    assert "?p=3" not in page.content.decode()
    assert listed(browser)[0] == newest
    assert browser.get(LIST, {"p": 3}).status_code == 302  # Django's answer to a wrong page


def test_a_large_table_is_not_counted(browser, monkeypatch):
    """PostgreSQL's estimate: rows are counted neither for the number of pages nor for the total."""
    monkeypatch.setattr(changelist, "PAGED", 1)
    if connection.vendor != "postgresql":
        monkeypatch.setattr(changelist, "estimate", lambda rows: 1_234_567)
    for number in range(2):
        square.delay(number)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE pg_class SET reltuples = 1234567 WHERE relname = 'tasklog_taskcall'"
            )
    with CaptureQueriesContext(connection) as queries:
        page = browser.get(LIST).content.decode()
    assert "about 1,234,567 calls" in page
    assert "COUNT" not in str(queries.captured_queries)


def test_what_no_index_finds_is_looked_for_among_the_latest(browser, monkeypatch):
    monkeypatch.setattr(changelist, "LATEST", 3)
    old, *new = (square.apply_async([n], queue="slow").id for n in range(4))
    for query in ({"queue": "slow"}, {"state": "PENDING"}, {"state": "PENDING", "q": "square"}):
        page = browser.get(LIST, query)
        assert [call.task_id for call in page.context["cl"].result_list] == new[::-1]
        assert "among the latest 3 calls" in page.content.decode()
    TaskCall.objects.filter(task_id=old).update(sent_at=None)  # an index has what waits to be sent
    assert listed(browser, state="PENDING") == [*new[::-1], old]
    assert "among the latest" not in browser.get(LIST).content.decode()


def test_a_lookup_in_the_address_works_too(browser):
    first, _second = square.delay(1), square.delay(2)
    call = TaskCall.objects.get(task_id=first.id)
    assert listed(browser, pk__in=str(call.pk)) == [first.id]


# --- One call -----------------------------------------------------------------------------------


def test_a_page_shows_all_of_a_call(browser):
    moment = timezone.now()
    result = add.apply_async([moment], {"y": "<b>ü</b>"}, queue="slow", priority=3)
    store(result, "SUCCESS", {"answer": [42, "<i>"]})
    text = detail(browser, result.id)
    plain = re.sub("<[^>]*>", "", text)
    for part in (
        add.name, result.id, "slow", str(moment)[:19], "&lt;b&gt;ü&lt;/b&gt;",
        '"priority": 3', '"answer": [', "&lt;i&gt;",
    ):  # fmt: skip
        assert part in plain
    assert "<b>ü" not in text
    assert "<input" not in re.search('<form[^>]*id="taskcall_form".*', text, re.S)[0].replace(
        '<input type="hidden" name="csrfmiddlewaretoken"', ""
    )


def test_a_traceback_is_highlighted(browser):
    result = square.delay("x")
    store(
        result,
        "FAILURE",
        ValueError("no"),
        traceback='  File "a.py", line 3, in f\nValueError: <no>',
    )
    text = detail(browser, result.id)
    assert '<span class="gr">ValueError</span>' in text
    assert "&lt;no&gt;" in text


def test_without_pygments_it_is_shown_plain(browser, monkeypatch):
    monkeypatch.setattr(highlight, "JsonLexer", None)
    monkeypatch.setattr(highlight, "PythonTracebackLexer", None)
    result = square.delay("<x>")
    store(result, "FAILURE", ValueError("no"), traceback="ValueError: <no>")
    text = detail(browser, result.id)
    assert "ValueError: &lt;no&gt;" in text
    assert "&quot;&lt;x&gt;&quot;" in text
    assert 'class="gr"' not in text


def test_of_a_long_text_the_beginning_is_shown(browser):
    result = square.delay("x")
    store(result, "SUCCESS", "y" * 200_000)
    text = detail(browser, result.id)
    assert "more characters" in text
    assert len(text) < 100_000


def test_hidden_arguments_stay_hidden(browser):
    result = square.apply_async(["secret"], argsrepr="('***',)")
    text = detail(browser, result.id)
    assert "secret" not in text
    assert "hidden by the caller: (&#x27;***&#x27;,)" in text


def test_a_call_and_its_retries_lead_to_each_other(browser):
    first = square.delay(1)
    old = TaskCall.objects.get()
    second = old.retry()
    new = TaskCall.objects.get(task_id=second.id)
    assert f'<a href="{LIST}{new.pk}/change/">{second.id}</a>' in detail(browser, first.id)
    assert f'<a href="{LIST}{old.pk}/change/">{first.id}</a>' in detail(browser, second.id)


def test_a_state_of_its_own_is_shown_as_it_is(browser):
    store(square.delay(1), "HALF <WAY>")
    assert ">HALF &lt;WAY&gt;</span>" in browser.get(LIST).content.decode()


def test_durations_are_shown(browser):
    result = square.delay(1)
    store(result, "STARTED")
    store(result, "SUCCESS", 1)
    began = TaskResult.objects.get().date_started
    TaskCall.objects.update(sent_at=began - timedelta(minutes=90))
    TaskResult.objects.update(date_done=F("date_started") + timedelta(seconds=1.5))
    text = browser.get(LIST).content.decode()
    assert "1:30:00" in text
    assert "1.50 s" in text


# --- Actions ------------------------------------------------------------------------------------


def test_retry_says_which_id_became_which(browser, messages):
    first, second = square.delay(1), square.delay(2)
    [said] = act(browser, "retry", first, second)
    assert said.startswith("2 calls were retried.")
    new = TaskCall.objects.filter(retry_of__isnull=False)
    assert len(new) == 2
    for call in new:
        assert call.task_id in said
        assert call.retry_of.task_id in said
    assert [message["id"] for message in messages()][2:] == [call.task_id for call in new]


def test_resend_sends_under_the_same_id(browser, messages):
    result = square.delay(1)
    [said] = act(browser, "resend", result)
    assert said.startswith("1 call was sent again.")
    assert [message["id"] for message in messages()] == [result.id] * 2


def test_what_is_refused_is_named_with_its_reason(browser, messages):
    hidden, gone, good = square.apply_async([1], argsrepr="*"), square.delay(2), square.delay(3)
    TaskCall.objects.filter(task_id=gone.id).update(options={"queue": "gone"})
    done, refused = act(browser, "retry", hidden, gone, good)
    assert done.startswith("1 call was retried.")
    assert refused.startswith("2 calls were not retried.")
    assert f"{hidden.id}] hides its arguments" in refused
    assert f"{gone.id}]: QueueNotFound" in refused


def test_what_has_ended_is_neither_resent_nor_revoked(browser):
    result = square.delay(1)
    store(result, "SUCCESS")
    for action in ("resend", "revoke", "terminate"):
        [said] = act(browser, action, result)
        assert "has ended: SUCCESS" in said
    assert result.state == "SUCCESS"


@pytest.mark.parametrize("action", ["revoke", "terminate"])
def test_revoked_before_it_was_sent_a_call_has_ended(browser, action):
    result = square.apply_async([1], countdown=HOUR)
    [said] = act(browser, action, result)
    assert said.startswith(f"1 call was {action}")
    assert result.state == "REVOKED"


def test_a_long_report_is_cut(browser):
    results = [square.delay(n) for n in range(12)]
    [said] = act(browser, "retry", *results)
    assert said.startswith("12 calls were retried.")
    assert said.count(" → ") == 10
    assert "and 2 more" in said


@pytest.mark.parametrize("action", ["resend", "revoke"])
def test_with_the_broker_away_it_says_so(browser, broker_away, action):
    result = square.delay(1)
    [said] = act(browser, action, result)
    assert "The broker is away" in said
    assert "and what follows it were left alone" in said


def test_all_pages_at_once_is_refused(browser):
    result = square.delay(1)
    [said] = act(browser, "retry", result, select_across=1)
    assert "retry_tasks" in said
    assert TaskCall.objects.count() == 1
    assert 'class="question' not in browser.get(LIST).content.decode()


def test_a_call_is_deleted_with_its_result(browser):
    kept, gone = square.delay(1), square.delay(2)
    for result in (kept, gone):
        store(result, "SUCCESS")
    act(browser, "delete_selected", gone, post="yes")
    assert TaskCall.objects.get().task_id == TaskResult.objects.get().task_id == kept.id
    browser.post(f"{LIST}{TaskCall.objects.get().pk}/delete/", {"post": "yes"})
    assert not TaskCall.objects.exists()
    assert not TaskResult.objects.exists()


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("action", ["retry", "resend", "revoke", "terminate"])
def test_each_action_has_a_permission_of_its_own(colleague, action, messages):
    result = square.apply_async([1], countdown=HOUR)
    TaskCall.objects.update(eta=timezone.now())
    others = {"retry", "resend", "revoke", "terminate"} - {action}
    without = colleague("view_taskcall", *(f"{other}_taskcall" for other in others))
    call = TaskCall.objects.get()
    assert f'value="{action}"' not in without.get(LIST).content.decode()
    assert f'value="{action}"' not in detail(without, result.id)
    act(without, action, result)
    assert (result.state, messages(), TaskCall.objects.count()) == ("PENDING", [], 1)
    allowed = colleague("view_taskcall", f"{action}_taskcall")
    for page in (allowed.get(LIST).content.decode(), detail(allowed, result.id)):
        assert f'value="{action}"' in page
        assert not any(f'value="{other}"' in page for other in others)
    act(allowed, action, result)
    assert result.state == "REVOKED" or messages() or TaskCall.objects.count() == 2
    assert call.pk


@pytest.mark.usefixtures("permissions")
def test_nobody_adds_or_changes_and_only_some_look(colleague, browser):
    square.delay(1)
    call = TaskCall.objects.get()
    change = f"{LIST}{call.pk}/change/"
    assert browser.get(f"{LIST}add/").status_code == 403
    assert browser.post(change, {"name": "other"}).status_code == 403
    assert colleague().get(LIST).status_code == 403
    viewer = colleague("view_taskcall")
    assert viewer.get(change).status_code == 200
    assert "tasklog-actions" not in viewer.get(change).content.decode()
    assert viewer.post(f"{LIST}{call.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.urls(__name__)
def test_it_works_in_another_admin_site(browser):
    first = square.delay(1)
    old = TaskCall.objects.get()
    store(first, "FAILURE", ValueError("no"))
    old.retry()
    page = browser.get("/ops/tasklog/taskcall/").content.decode()
    assert f'href="/ops/tasklog/taskcall/{old.pk}/change/"' in page
    page = browser.get(f"/ops/tasklog/taskcall/{old.pk}/change/").content.decode()
    assert 'action="/ops/tasklog/taskcall/"' in page
    assert f'href="/ops/tasklog/taskcall/{old.pk + 1}/change/"' in page
    assert '"/admin/' not in page
    data = {"index": 0, "action": "retry", "_selected_action": old.pk}
    page = browser.post("/ops/tasklog/taskcall/", data, follow=True)
    assert f"/ops/tasklog/taskcall/{old.pk}/change/" in page.content.decode()


def test_pages_carry_no_inline_style_or_script_of_ours(browser):
    """They work under a strict Content-Security-Policy."""
    result = square.delay(1)
    store(result, "FAILURE", ValueError("no"), traceback="ValueError: no")
    for page in (browser.get(LIST).content.decode(), detail(browser, result.id)):
        assert "tasklog/admin.css" in page
        assert " style=" not in page
        assert "<style" not in page
        assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []


# --- Results and periodic tasks -------------------------------------------------------------------


def test_results_have_a_quick_admin_where_the_stock_one_was():
    assert type(admin.site.get_model_admin(TaskResult)) is TaskResultAdmin
    assert issubclass(TaskResultAdmin, django_celery_results.admin.TaskResultAdmin)
    assert reverse("admin:django_celery_results_groupresult_changelist")


def test_results_are_listed_filtered_and_found(browser):
    first, second = square.delay(1), square.delay(2)
    store(first, "SUCCESS", 1)
    store(second, "FAILURE", ValueError("no"))
    TaskResult.objects.filter(task_id=first.id).update(worker="one@host", task_name=square.name)

    def found(**query):
        with CaptureQueriesContext(connection) as queries:
            page = browser.get(RESULTS, query)
        assert "DISTINCT" not in str(queries.captured_queries)
        assert "LIKE" not in str(queries.captured_queries)
        return [result.task_id for result in page.context["cl"].result_list]

    today = timezone.localdate(TaskResult.objects.get(task_id=first.id).date_done)
    assert found() == [second.id, first.id]
    assert found(status="SUCCESS") == [first.id]
    for text in (first.id, square.name, "one@host"):
        assert found(q=text) == [first.id]
    assert found(date_done__year=today.year, date_done__month=today.month) == [second.id, first.id]
    assert found(date_done__year=today.year - 1) == []
    page = browser.get(f"{RESULTS}{TaskResult.objects.get(task_id=first.id).pk}/change/")
    assert first.id in page.content.decode()


def test_the_date_hierarchy_goes_from_the_first_to_the_last(browser):
    moments = ["2024-12-31T12:00Z", "2026-01-30T12:00Z", "2026-02-02T12:00Z"]
    for moment in moments:
        result = square.delay(1)
        store(result, "SUCCESS")
        when = timezone.datetime.fromisoformat(moment)
        TaskResult.objects.filter(task_id=result.id).update(date_done=when)

    def choices(**query):
        context = browser.get(RESULTS, query).context
        return [choice["title"] for choice in context["choices"]]

    assert choices() == ["2024", "2025", "2026"]
    assert choices(date_done__year=2026) == ["January 2026", "February 2026"]
    found = choices(date_done__year=2026, date_done__month=1)
    assert found == ["January 30"]


@pytest.fixture
def periodic(transactional_db):
    """A periodic task with all options."""
    return PeriodicTask.objects.create(
        name="Squares",
        task=square.name,
        interval=IntervalSchedule.objects.create(every=1, period="days"),
        args="[5]",
        kwargs="{}",
        exchange="slow",
        routing_key="slow",
        priority=4,
        headers='{"mark": "x"}',
        expire_seconds=60,
        enabled=False,
    )


def run_now(browser, *tasks):
    data = {"action": "run_tasks", "index": 0, "_selected_action": [task.pk for task in tasks]}
    page = browser.post(PERIODIC, data, follow=True)
    return [str(message) for message in page.context["messages"]]


def test_run_now_keeps_all_options(browser, periodic, redis_server):
    with current_app.connection_for_write() as broker:
        current_app.amqp.queues["slow"](broker).declare()  # as its worker would
    [said] = run_now(browser, periodic)
    call = TaskCall.objects.get()
    assert said.startswith("1 periodic task was called.")
    assert f"Squares: {call.task_id}" in said
    [raw] = redis_server.client().lrange("slow\x06\x163", 0, -1)  # Redis has four priorities
    message = json.loads(raw)
    headers, properties = message["headers"], message["properties"]
    assert headers["task"] == square.name
    assert headers["argsrepr"] == "[5]"
    assert headers["mark"] == "x"
    assert headers["periodic_task_name"] == "Squares"
    assert properties["delivery_info"] == {"exchange": "slow", "routing_key": "slow"}
    assert properties["priority"] == 4
    expires = timezone.datetime.fromisoformat(headers["expires"]) - timezone.now()
    assert timedelta(seconds=50) < expires <= timedelta(seconds=60)
    assert call.options["headers"]["mark"] == "x"
    periodic.refresh_from_db()
    assert periodic.last_run_at is None
    assert not periodic.enabled


def test_run_now_names_what_it_cannot_run(browser, periodic, messages):
    def copy(name, **fields):
        return PeriodicTask.objects.create(name=name, interval=periodic.interval, **fields)

    past = timezone.now() - timedelta(minutes=1)
    unknown = copy("Unknown", task="no.such.task")
    expired = copy("Expired", task=square.name, args="[1]", expires=past)
    lost = copy("Lost", task=square.name, args="[1]", queue="gone")
    done, refused = run_now(browser, unknown, expired, lost, periodic)
    assert done.startswith("1 periodic task was called.")
    assert refused.startswith("3 periodic tasks were not called.")
    for reason in ("no.such.task, which does not exist", "“Expired” has expired", "gone"):
        assert reason in refused


@pytest.mark.usefixtures("permissions")
def test_run_now_needs_the_permission_to_change(colleague, periodic, messages):
    viewer = colleague("view_periodictask")
    assert "run_tasks" not in viewer.get(PERIODIC).content.decode()
    run_now(viewer, periodic)
    assert not TaskCall.objects.exists()


def test_whoever_has_registered_another_admin_keeps_it():
    from tasklog.admin import replace

    class Own(django_celery_beat.admin.PeriodicTaskAdmin):
        """A site's own."""

    before = admin.site.get_model_admin(PeriodicTask)
    replace(PeriodicTask, Own, django_celery_beat.admin.PeriodicTaskAdmin)
    assert admin.site.get_model_admin(PeriodicTask) is before


@pytest.mark.parametrize("hidden", [{}, {"argsrepr": "\ud83d"}])
def test_half_a_character_is_shown_escaped(browser, hidden):
    """JSON carries a lone surrogate, and UTF-8 does not: the page is there all the same."""
    result = square.apply_async(["\ud83d"], **hidden)
    store(result, "SUCCESS", {"half": "\ud83d"})
    assert "\\ud83d" in detail(browser, result.id)
