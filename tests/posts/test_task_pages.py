"""The pages that start tasks, without a worker: who may, what is wrong, what is shown."""

import re
import uuid
from datetime import timedelta

import pytest
from celery import current_app
from django.core.files.base import ContentFile
from django.utils import timezone
from django_celery_results.models import TaskResult
from kombu.exceptions import OperationalError

from posts import runs
from posts.lessons import LESSONS
from posts.models import Export, Run
from posts.runs import BrokerDown, part_id
from posts.tasks.basics import add, sample_task
from posts.tasks.export import export_blog
from posts.tasks.failures import call_busy_service, kill_own_process, overrun
from posts.tasks.upkeep import remove_old_exports
from posts.tasks.workflow import collect_posts

from .helpers import text_of

ADD = {"add-x": 1, "add-y": 2, "add-seconds": 0}
HTMX = {"HX-Request": "true"}
TASKS = (add, sample_task, export_blog, overrun, kill_own_process)


@pytest.fixture
def sent(monkeypatch):
    """What would have been sent; there is no broker in these tests."""
    calls = []
    monkeypatch.setattr(runs, "check_broker", lambda: None)
    for task in TASKS:
        monkeypatch.setattr(task, "apply_async", lambda **options: calls.append(options))
    return calls


@pytest.fixture
def revoked(monkeypatch):
    """What would have been revoked."""
    calls = []
    monkeypatch.setattr(runs, "check_broker", lambda: None)
    monkeypatch.setattr(
        current_app.control, "revoke", lambda ids, **options: calls.append((ids, options))
    )
    return calls


@pytest.fixture
def make_run(author):
    def make(task=add, **fields):
        fields.setdefault("started_by", author)
        return Run.objects.create(task=task.name, task_id=uuid.uuid4(), **fields)

    return make


@pytest.fixture
def make_export(author):
    def make(owner=author):
        export = Export(owner=owner, task_id=uuid.uuid4())
        export.file.save("blog.zip", ContentFile(b"an archive"))
        return export

    return make


def store(run, status, part=None, started=True, **fields):
    """Store a result for a run, or for a part of it."""
    task_id = part_id(run.task_id, part) if part else run.task_id
    fields.setdefault("date_started", run.created_at if started else None)
    return TaskResult.objects.create(task_id=task_id, status=status, **fields)


def keys_of(page):
    """What a page asks about: {run's id: version}."""
    return dict(re.findall(r'name="run" value="([0-9a-f-]{36})\.([0-9a-f]+)"', page))


def poll(client, keys):
    return client.get(
        "/tasks/poll/",
        {"run": [f"{key}.{version}" for key, version in keys.items()], "page": "dashboard"},
        headers=HTMX,
    )


# --- Who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/tasks/run/add/"),
        ("get", "/tasks/poll/"),
        ("get", "/tasks/workers/"),
        ("get", "/tasks/sample/"),
        ("get", "/tasks/export/"),
        ("post", "/tasks/export/"),
        ("get", "/tasks/runs/"),
        ("get", "/tasks/runs/{id}/"),
        ("post", "/tasks/runs/{id}/again/"),
        ("post", "/tasks/runs/{id}/cancel/"),
        ("get", "/tasks/export/{id}/"),
        ("get", "/tasks/export/{id}/download/"),
    ],
)
def test_only_staff_may_start_and_watch(client, reader, method, path, sent):
    path = path.format(id=uuid.uuid4())
    assert getattr(reader, method)(path).status_code == 403
    reader.logout()
    assert getattr(reader, method)(path).url == f"/accounts/login/?next={path}"
    assert not sent


def test_strangers_see_what_it_is_and_how_to_sign_in(client, make_run, reader):
    run = make_run(arguments={"x": "a-secret"})
    assert client.get("/tasks/").status_code == 403, "signed in, and not staff"
    reader.logout()
    response = client.get("/tasks/")
    page = text_of(response)
    assert response.status_code == 200
    assert 'href="/accounts/login/?next=/tasks/"' in page
    assert "A made-up example" in page
    assert "a-secret" not in page
    assert str(run.task_id) not in page
    assert "<form" not in page.partition("<main")[2].partition("</main")[0]
    assert "hx-get" not in page


@pytest.mark.parametrize("name", ["run/add", "runs/{id}/again", "runs/{id}/cancel"])
def test_a_get_starts_and_stops_nothing(writer, sent, revoked, make_run, name):
    path = f"/tasks/{name.format(id=make_run().task_id)}/"
    assert writer.get(path).status_code == 405
    assert not sent
    assert not revoked


def test_pages_of_people_are_not_cached(writer):
    for path in ("/tasks/", "/tasks/runs/", "/tasks/poll/"):
        assert "no-store" in writer.get(path).headers["Cache-Control"]


# --- Starting -------------------------------------------------------------------------------------


def test_the_record_is_there_before_the_message(writer, sent, monkeypatch):
    """A worker may be faster than this process: what the task's page needs must exist."""
    found = []
    monkeypatch.setattr(
        add,
        "apply_async",
        lambda **options: found.append(Run.objects.get(task_id=options["task_id"])),
    )
    assert writer.post("/tasks/run/add/", ADD).url == "/tasks/#lesson-add"
    assert found == [Run.objects.get()]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("add-seconds", 61, "less than or equal to 60"),
        ("add-seconds", -1, "greater than or equal to 0"),
        ("add-seconds", "nan", "Enter a number"),
        ("add-x", "two", "Enter a whole number"),
        ("add-x", "", "This field is required"),
    ],
)
@pytest.mark.parametrize("headers", [{}, HTMX], ids=["page", "htmx"])
def test_a_wrong_value_is_told_and_nothing_is_sent(writer, sent, field, value, message, headers):
    response = writer.post("/tasks/run/add/", {**ADD, "add-y": 77, field: value}, headers=headers)
    assert message in text_of(response)
    assert 'value="77"' in text_of(response)
    assert response.headers.get("HX-Retarget", "#form-add") == "#form-add"
    assert not sent
    assert not Run.objects.exists()


def test_htmx_gets_the_lessons_runs_and_what_to_ask_for(writer, sent, make_run):
    other = make_run(sample_task)
    response = writer.post("/tasks/run/add/", {**ADD, "run": f"{other.task_id}.abc"}, headers=HTMX)
    page = text_of(response)
    run = Run.objects.get(task=add.name)
    assert page.strip().startswith('<div id="runs-add"')
    assert set(keys_of(page)) == {str(run.task_id), str(other.task_id)}
    assert 'id="live" hx-swap-oob="true" hx-get="/tasks/poll/"' in page


@pytest.mark.parametrize(
    ("way", "task", "arguments"),
    [
        ("soft", overrun, {}),
        ("hard", overrun, {"stubborn": True}),
        ("kill", kill_own_process, {}),
    ],
)
def test_the_ways_to_break_a_task(writer, sent, way, task, arguments):
    writer.post("/tasks/run/fail_sometimes/", {"break": way})
    run = Run.objects.get()
    assert (run.task, run.arguments) == (task.name, arguments)
    assert [call["kwargs"] for call in sent] == [arguments]


@pytest.mark.parametrize(
    ("name", "data"),
    [("format_disk", {}), ("add", {"break": "kill"}), ("fail_sometimes", {"break": "disk"})],
)
def test_an_unknown_task_or_way_is_not_found(writer, name, data):
    assert writer.post(f"/tasks/run/{name}/", data).status_code == 404


def test_a_run_can_be_run_again_by_somebody_else(writer, sent, make_run, django_user_model):
    """What belongs to the person, such as an export, belongs to the new one."""
    other = django_user_model.objects.create_user("grace", is_staff=True)
    run = make_run(export_blog, arguments={"owner_id": other.pk}, started_by=other)
    writer.post(f"/tasks/runs/{run.task_id}/again/")
    again = Run.objects.exclude(pk=run.pk).get()
    assert again.started_by.username == "ada"
    assert again.arguments == {"owner_id": again.started_by_id}


def test_the_repeat_of_a_broken_task_has_its_arguments(writer, sent, make_run):
    run = make_run(overrun, arguments={"stubborn": True})
    writer.post(f"/tasks/runs/{run.task_id}/again/")
    assert [call["kwargs"] for call in sent] == [{"stubborn": True}]


# --- Without a broker -----------------------------------------------------------------------------


@pytest.fixture
def no_broker(monkeypatch):
    """The broker goes away between the question whether it is there, and the message."""

    def refuse(**options):
        raise OperationalError("Connection refused")

    monkeypatch.setattr(runs, "check_broker", lambda: None)
    for task in TASKS:
        monkeypatch.setattr(task, "apply_async", refuse)


@pytest.mark.parametrize("path", ["/tasks/run/add/", "/tasks/export/"])
def test_a_broker_that_is_down_is_said_and_nothing_is_kept(writer, no_broker, path):
    page = text_of(writer.post(path, ADD, follow=True))
    assert "The broker does not answer, so nothing was started." in page
    assert not Run.objects.exists()


def test_htmx_gets_the_message_beside_the_button(writer, no_broker):
    response = writer.post("/tasks/run/add/", ADD, headers=HTMX)
    assert response.headers["HX-Retarget"] == "#note-add"
    assert "nothing was started" in text_of(response)


def test_sample_view_says_503_when_the_broker_is_down(writer, no_broker):
    response = writer.get("/tasks/sample/")
    assert response.status_code == 503
    assert "nothing was started" in response.json()["error"]


def test_a_cancel_without_a_broker_is_kept_and_told(writer, make_run, monkeypatch):
    def down():
        raise BrokerDown("away")

    monkeypatch.setattr(runs, "check_broker", down)
    run = make_run(export_blog)
    page = text_of(writer.post(f"/tasks/runs/{run.task_id}/cancel/", follow=True))
    assert "no worker was told" in page
    run.refresh_from_db()
    assert run.cancelled_at


# --- What is shown --------------------------------------------------------------------------------


def test_the_empty_page_says_what_would_be_here(writer):
    page = text_of(writer.get("/tasks/"))
    assert page.count("Not run yet.") == len(LESSONS)
    assert 'hx-get="/tasks/poll/"' not in page
    assert "Every task that is started from the site appears here" in text_of(
        writer.get("/tasks/runs/")
    )
    assert "Finished archives appear here" in text_of(writer.get("/tasks/export/"))


@pytest.mark.parametrize("lesson", LESSONS.values(), ids=LESSONS)
def test_each_card_shows_the_source_as_it_stands(writer, lesson):
    page = text_of(writer.get("/tasks/"))
    name = lesson.task_name
    assert f'<span class="nf">{name}</span>' in page
    assert f'id="lesson-{lesson.name}"' in page


def test_each_task_says_what_one_must_know():
    """Its queue, its limits, whether it may run twice, and what it raises."""
    for name, task in current_app.tasks.items():
        if not name.startswith("posts.tasks."):
            continue
        text = " ".join(task.run.__doc__.split())
        assert re.search("Safe to run twice|Acknowledged early", text), name
        assert "Queue" in text, name
        assert re.search("[Ll]imit|milliseconds", text), name
        assert re.search("[Rr]ais", text), name


def test_a_run_says_where_it_is_and_how_long_it_took(writer, make_run):
    run = make_run(arguments={"x": 2, "y": 3})
    store(run, "SUCCESS", result="5", worker="celery@one")
    start, end = run.created_at + timedelta(seconds=0.25), run.created_at + timedelta(seconds=3.5)
    TaskResult.objects.update(date_started=start, date_done=end)
    page = text_of(writer.get("/tasks/"))
    row = page.partition(f'id="run-{run.task_id}"')[2].partition("</li>")[0]
    for fact in ("SUCCESS", "x=2, y=3", "<p>5</p>", "celery@one", "queue celery"):
        assert fact in row
    assert "waited 0.25 s" in row
    assert "ran 3.25 s" in row
    assert "Run again" in row
    assert "Cancel" not in row


def test_a_failure_has_its_traceback_folded(writer, make_run):
    run = make_run()
    store(
        run,
        "FAILURE",
        result='{"exc_type": "ValueError", "exc_message": ["<b>no</b>"], "exc_module": "builtins"}',
        traceback="Traceback: …",
    )
    page = writer.get("/tasks/").content.decode()
    assert "ValueError: &lt;b&gt;no&lt;/b&gt;" in page
    assert '<details class="traceback"><summary>Traceback</summary>' in page


def test_tries_are_counted(writer, make_run):
    run = make_run(call_busy_service)
    failure = '{"exc_type": "Busy", "exc_message": ["busy"], "exc_module": "posts.tasks.failures"}'
    store(run, "RETRY", result=failure, meta='{"retries": 1, "children": []}')
    page = text_of(writer.get("/tasks/"))
    assert "try 2 of 3" in page
    assert "Busy: busy" in page
    assert "It will be tried again." in page


def test_a_workflow_is_one_run_with_a_timeline(writer, make_run):
    run = make_run(collect_posts, arguments={"seconds": 1, "fail": ""})
    store(run, "SUCCESS", result="[]", worker="celery@one")
    store(run, "STARTED", "count_words", result='{"hostname": "celery@one"}')
    store(run, "STARTED", "count_links", result='{"hostname": "celery@two"}')
    page = text_of(writer.get("/tasks/"))
    assert "STARTED" in page
    assert "<title>Who ran when, on which worker" in page
    assert page.count('class="bar" x="') == 3
    detail = text_of(writer.get(f"/tasks/runs/{run.task_id}/"))
    assert detail.count('data-label="Part"') == 4, "the table says the same"


def test_unknown_times_draw_nothing(writer, make_run):
    """As with results in Redis or in the cache."""
    run = make_run(collect_posts)
    for part in (None, "count_words", "count_links", "combine_report"):
        store(run, "SUCCESS", part, started=False, result='{"words": 1}')
    page = text_of(writer.get("/tasks/"))
    assert "words: 1" in page
    assert "<svg" not in page.partition("<main")[2]


def test_runs_whose_results_are_gone_are_not_shown(writer, make_run, settings):
    """Their state would be PENDING for ever."""
    run = make_run()
    old = timezone.now() - settings.CELERY_RESULT_EXPIRES - timedelta(minutes=1)
    Run.objects.update(created_at=old)
    for path in ("/tasks/", "/tasks/runs/"):
        assert str(run.task_id) not in text_of(writer.get(path))
    assert writer.get(f"/tasks/runs/{run.task_id}/").status_code == 404


def test_a_card_shows_the_newest_three(writer, make_run):
    for number in range(5):
        make_run(arguments={"x": f"run-number-{number}"})
    page = text_of(writer.get("/tasks/"))
    assert [f"run-number-{n}" in page for n in range(5)] == [False, False, True, True, True]


def test_runs_come_twenty_a_page(writer, make_run):
    for number in range(21):
        make_run(arguments={"x": f"run-number-{number}"})
    first, second = text_of(writer.get("/tasks/runs/")), text_of(writer.get("/tasks/runs/?page=2"))
    assert first.count(' id="run-') == 20
    assert "run-number-20" in first
    assert second.count(' id="run-') == 1
    assert "run-number-0'" in second


# --- Polling --------------------------------------------------------------------------------------


def test_a_page_asks_for_what_has_not_ended_and_for_nothing_else(writer, make_run):
    ended, waits = make_run(), make_run(sample_task)
    store(ended, "SUCCESS", result="3")
    for path in ("/tasks/", "/tasks/runs/"):
        page = text_of(writer.get(path))
        assert set(keys_of(page)) == {str(waits.task_id)}
        assert page.count('hx-get="/tasks/poll/"') == 1


def test_while_nothing_changes_only_the_ages_are_renewed(writer, make_run):
    ended = make_run()
    make_run(sample_task)
    store(ended, "SUCCESS", result="3")
    page = text_of(writer.get("/tasks/"))
    shown = re.findall(r'name="ended" value="([0-9a-f-]{36})"', page)
    assert shown == [str(ended.task_id)]
    Run.objects.update(created_at=timezone.now() - timedelta(seconds=30))
    [key] = [f"{key}.{version}" for key, version in keys_of(page).items()]
    answer = text_of(
        writer.get("/tasks/poll/", {"run": key, "ended": shown, "page": "dashboard"}, headers=HTMX)
    )
    assert len(re.findall(r"\b3\d s ago", answer)) == 2
    assert f'id="when-{ended.task_id}" hx-swap-oob="true"' in answer
    assert "<li" not in answer


def test_only_what_has_changed_is_sent(writer, make_run):
    one, two = make_run(), make_run(sample_task)
    keys = keys_of(text_of(writer.get("/tasks/")))
    store(one, "STARTED", result='{"hostname": "celery@one"}')
    page = text_of(poll(writer, keys))
    assert f'id="run-{one.task_id}" hx-swap-oob="true"' in page
    assert f'id="run-{two.task_id}"' not in page
    assert set(keys_of(page)) == set(keys)
    ticking = text_of(poll(writer, keys_of(page)))
    assert f'id="clock-{one.task_id}"' in ticking
    assert f'id="run-{one.task_id}"' not in ticking


def test_polling_stops_when_all_has_ended(writer, make_run):
    run = make_run()
    keys = keys_of(text_of(writer.get("/tasks/")))
    store(run, "SUCCESS", result="3")
    response = poll(writer, keys)
    page = text_of(response)
    assert "SUCCESS" in page
    assert "add has ended: SUCCESS." in page
    assert 'hx-get="/tasks/poll/"' not in page
    assert "runs-settled" in response.headers["HX-Trigger"]
    assert not keys_of(text_of(writer.get("/tasks/")))


@pytest.mark.parametrize("number", [1, 20])
def test_a_poll_costs_two_queries(writer, make_run, number, django_assert_num_queries):
    for _ in range(number):
        store(make_run(), "STARTED", result='{"hostname": "celery@one"}')
    make_run(collect_posts)
    keys = keys_of(text_of(writer.get("/tasks/runs/")))
    stale = dict.fromkeys(keys, "0")
    with django_assert_num_queries(4):  # Two of them: who is it?
        assert poll(writer, stale).status_code == 200


def test_a_poll_for_nonsense_is_harmless(writer):
    for key in ("x.1", "", "00000000-0000-0000-0000-000000000000.1"):
        response = writer.get("/tasks/poll/", {"run": key}, headers=HTMX)
        assert response.status_code == 200
        assert "hx-get" not in text_of(response)


# --- Cancelling -----------------------------------------------------------------------------------


def test_a_cancel_is_kept_and_told_to_the_workers_with_all_parts(writer, make_run, revoked):
    run = make_run(collect_posts)
    for _ in range(2):
        writer.post(f"/tasks/runs/{run.task_id}/cancel/")
    first, second = revoked
    ids, options = first
    parts = ("count_words", "count_links", "combine_report", "report_failed")
    assert set(ids) == {str(run.task_id), *(part_id(run.task_id, part) for part in parts)}
    assert options == {"terminate": True, "signal": "SIGTERM"}
    assert second == first
    run.refresh_from_db()
    assert run.cancelled_at


def test_a_run_can_be_cancelled_by_somebody_else(writer, make_run, revoked, django_user_model):
    other = django_user_model.objects.create_user("grace", is_staff=True)
    run = make_run(collect_posts, started_by=other)
    writer.post(f"/tasks/runs/{run.task_id}/cancel/")
    assert revoked
    run.refresh_from_db()
    assert run.cancelled_at


def test_a_waiting_run_that_was_cancelled_is_over(writer, make_run):
    """It will not begin, whoever starts later: see CancellableTask."""
    make_run(export_blog, cancelled_at=timezone.now())
    page = text_of(writer.get("/tasks/"))
    assert "REVOKED" in page
    assert "It did not begin." in page
    assert not keys_of(page)


def test_of_a_task_that_only_workers_can_drop_nothing_is_claimed(writer, make_run):
    make_run(add, cancelled_at=timezone.now())
    page = text_of(writer.get("/tasks/"))
    assert "PENDING" in page
    assert "the worker drops it at its turn" in page


# --- Exports --------------------------------------------------------------------------------------


def test_progress_is_a_bar_with_a_name(writer, make_run):
    run = make_run(export_blog)
    store(run, "PROGRESS", result='{"done": 2, "total": 8}')
    page = text_of(writer.get(f"/tasks/export/{run.task_id}/"))
    assert '<progress class="wide" value="2" max="8" aria-label="Export">25 %</progress>' in page
    assert "2 of 8 posts, 25 %" in page
    assert '<progress value="2" max="8" aria-label="Progress of export_blog">' in text_of(
        writer.get("/tasks/")
    )


def test_a_failed_export_says_why_and_offers_another_try(writer, make_run):
    run = make_run(export_blog)
    store(
        run,
        "FAILURE",
        result='{"exc_type": "OSError", "exc_message": ["disk full"], "exc_module": "builtins"}',
        traceback="Traceback: …",
    )
    page = text_of(writer.get(f"/tasks/export/{run.task_id}/"))
    assert "nothing of it was kept: OSError: disk full" in page
    assert "Try again" in page


def test_an_export_at_work_can_be_cancelled_on_its_page(writer, make_run, revoked):
    run = make_run(export_blog)
    store(run, "PROGRESS", result='{"done": 2, "total": 8}')
    path = f"/tasks/export/{run.task_id}/"
    page = text_of(writer.get(path))
    assert f'action="/tasks/runs/{run.task_id}/cancel/"' in page
    response = writer.post(f"/tasks/runs/{run.task_id}/cancel/", {"next": path})
    assert response.url == path
    assert revoked
    TaskResult.objects.update(
        status="REVOKED",
        result='{"exc_type": "TaskRevokedError", "exc_message": ["terminated"], '
        '"exc_module": "celery.exceptions"}',
    )
    page = text_of(writer.get(path))
    assert "Cancelled, and nothing of it was kept." in page
    assert "hx-get" not in page.partition("<main")[2]


def test_nobody_is_sent_to_another_site(writer, make_run, revoked):
    run = make_run()
    response = writer.post(
        f"/tasks/runs/{run.task_id}/cancel/", {"next": "https://elsewhere.example/"}
    )
    assert response.url == "/tasks/#lesson-add"


def test_an_export_is_for_its_owner_alone(writer, make_export, make_run, django_user_model):
    other = django_user_model.objects.create_user("grace", is_staff=True)
    mine, theirs = make_export(), make_export(other)
    response = writer.get(f"/tasks/export/{mine.task_id}/download/")
    assert b"".join(response.streaming_content) == b"an archive"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="blog-')
    assert writer.get(f"/tasks/export/{theirs.task_id}/download/").status_code == 404
    run = make_run(export_blog, started_by=other)
    store(run, "SUCCESS", result='{"posts": 1}')
    assert writer.get(f"/tasks/export/{run.task_id}/").status_code == 404
    page = text_of(writer.get("/tasks/export/"))
    assert str(mine.task_id) in page
    assert str(theirs.task_id) not in page
    assert f"/tasks/export/{run.task_id}/download/" not in text_of(writer.get("/tasks/"))


def test_exports_are_not_reachable_by_media_url(client, make_export):
    assert client.get(f"/media/{make_export().file.name}").status_code == 404


def test_no_task_is_called_by_a_template(writer, monkeypatch):
    """Django calls what it can call, and would so run the task in the web process."""
    monkeypatch.setattr(
        type(remove_old_exports._get_current_object()),
        "__call__",
        lambda *args, **kwargs: pytest.fail("a task was called"),
    )
    writer.get("/tasks/")
