"""The pages that start tasks, without a worker: who may, what is wrong, what is shown."""

import uuid
from datetime import timedelta

import pytest
from django.core.files.base import ContentFile
from django.utils import timezone
from django_celery_results.models import TaskResult
from kombu.exceptions import OperationalError

from posts.models import Export, Run
from posts.tasks.basics import add
from posts.tasks.export import export_blog

from .helpers import text_of

ADD = {"add-x": 1, "add-y": 2, "add-seconds": 0}


@pytest.fixture
def sent(monkeypatch):
    """What would have been sent; there is no broker in these tests."""
    calls = []
    for task in (add, export_blog):
        monkeypatch.setattr(task, "apply_async", lambda **options: calls.append(options))
    return calls


@pytest.fixture
def no_broker(monkeypatch):
    def refuse(**options):
        raise OperationalError("Connection refused")

    for task in (add, export_blog):
        monkeypatch.setattr(task, "apply_async", refuse)


@pytest.fixture
def make_run(author):
    def make(task="posts.tasks.basics.add", **fields):
        fields.setdefault("started_by", author)
        return Run.objects.create(task=task, task_id=uuid.uuid4(), **fields)

    return make


@pytest.fixture
def make_export(author):
    def make(owner=author):
        export = Export(owner=owner, task_id=uuid.uuid4())
        export.file.save("blog.zip", ContentFile(b"an archive"))
        return export

    return make


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/tasks/"),
        ("post", "/tasks/run/add/"),
        ("get", "/tasks/sample/"),
        ("get", "/tasks/export/"),
        ("post", "/tasks/export/"),
        ("get", "/tasks/runs/{id}/"),
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


def test_a_get_starts_nothing(writer, sent):
    assert writer.get("/tasks/run/add/").status_code == 405
    assert not sent


def test_the_record_is_there_before_the_message(writer, monkeypatch):
    """A worker may be faster than this process: what the task's page needs must exist."""
    found = []
    monkeypatch.setattr(
        add,
        "apply_async",
        lambda **options: found.append(Run.objects.get(task_id=options["task_id"])),
    )
    writer.post("/tasks/run/add/", ADD)
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
def test_a_wrong_value_is_told_and_nothing_is_sent(writer, sent, field, value, message):
    response = writer.post("/tasks/run/add/", {**ADD, "add-y": 77, field: value})
    assert message in text_of(response)
    assert 'value="77"' in text_of(response)
    assert not sent
    assert not Run.objects.exists()


def test_an_unknown_task_is_not_found(writer):
    assert writer.post("/tasks/run/format_disk/", {}).status_code == 404


@pytest.mark.parametrize("path", ["/tasks/run/add/", "/tasks/export/"])
def test_a_broker_that_is_down_is_said_and_nothing_is_kept(writer, no_broker, path):
    page = text_of(writer.post(path, ADD, follow=True))
    assert "The broker does not answer, so nothing was started." in page
    assert not Run.objects.exists()


def test_sample_view_says_503_when_the_broker_is_down(writer, monkeypatch):
    from posts.tasks.basics import sample_task

    def refuse(**options):
        raise OperationalError("Connection refused")

    monkeypatch.setattr(sample_task, "apply_async", refuse)
    response = writer.get("/tasks/sample/")
    assert response.status_code == 503
    assert "nothing was started" in response.json()["error"]


def test_the_empty_page_says_what_would_be_here(writer):
    assert "Every task that is started here appears" in text_of(writer.get("/tasks/"))
    assert "Finished archives appear here" in text_of(writer.get("/tasks/export/"))


def test_a_run_asks_again_until_it_has_ended(writer, make_run):
    run = make_run()
    path = f"/tasks/runs/{run.task_id}/"
    htmx = {"HX-Request": "true"}
    assert f'hx-get="{path}"' in text_of(writer.get(path, headers=htmx))
    TaskResult.objects.create(task_id=run.task_id, status="SUCCESS", result="3")
    row = text_of(writer.get(path, headers=htmx))
    assert "hx-get" not in row
    assert "SUCCESS" in row
    assert "<html" not in row
    assert "<html" in text_of(writer.get(path))


def test_progress_is_a_bar_with_a_name(writer, make_run):
    run = make_run(task=export_blog.name)
    TaskResult.objects.create(
        task_id=run.task_id, status="PROGRESS", result='{"done": 2, "total": 8}'
    )
    page = text_of(writer.get(f"/tasks/export/{run.task_id}/"))
    assert '<progress class="wide" value="2" max="8" aria-label="Export">25 %</progress>' in page
    assert "2 of 8 posts, 25 %" in page


def test_a_failed_export_says_why_and_offers_another_try(writer, make_run):
    run = make_run(task=export_blog.name)
    TaskResult.objects.create(
        task_id=run.task_id,
        status="FAILURE",
        result='{"exc_type": "OSError", "exc_message": ["disk full"], "exc_module": "builtins"}',
        traceback="Traceback: …",
    )
    page = text_of(writer.get(f"/tasks/export/{run.task_id}/"))
    assert "nothing of it was kept: OSError: disk full" in page
    assert "Try again" in page


def test_runs_whose_results_are_gone_are_not_shown(writer, make_run, settings):
    """Their state would be PENDING for ever."""
    run = make_run()
    old = timezone.now() - settings.CELERY_RESULT_EXPIRES - timedelta(minutes=1)
    Run.objects.update(created_at=old)
    assert str(run.task_id) not in text_of(writer.get("/tasks/"))
    assert writer.get(f"/tasks/runs/{run.task_id}/").status_code == 404


def test_runs_come_twenty_a_page(writer, make_run):
    for number in range(21):
        make_run(arguments={"x": f"run-number-{number}"})
    first, second = text_of(writer.get("/tasks/")), text_of(writer.get("/tasks/?page=2"))
    assert first.count('<tr id="run-') == 20
    assert "run-number-20" in first
    assert second.count('<tr id="run-') == 1
    assert "run-number-0'" in second


def test_an_export_is_for_its_owner_alone(writer, make_export, make_run, django_user_model):
    other = django_user_model.objects.create_user("grace", is_staff=True)
    mine, theirs = make_export(), make_export(other)
    response = writer.get(f"/tasks/export/{mine.task_id}/download/")
    assert b"".join(response.streaming_content) == b"an archive"
    assert response.headers["Content-Disposition"].startswith('attachment; filename="blog-')
    assert writer.get(f"/tasks/export/{theirs.task_id}/download/").status_code == 404
    run = make_run(task=export_blog.name, started_by=other)
    assert writer.get(f"/tasks/export/{run.task_id}/").status_code == 404
    page = text_of(writer.get("/tasks/export/"))
    assert str(mine.task_id) in page
    assert str(theirs.task_id) not in page


def test_exports_are_not_reachable_by_media_url(client, make_export):
    assert client.get(f"/media/{make_export().file.name}").status_code == 404


def test_pages_of_people_are_not_cached(writer):
    assert "no-store" in writer.get("/tasks/").headers["Cache-Control"]
