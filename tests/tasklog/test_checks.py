"""An installation that is half done is named, with the way out."""

import re

import celery
import pytest
from celery import shared_task
from celery.local import Proxy
from django.core.checks import run_checks

from tasklog import app as tasklog_app
from tasklog import conf
from tests.services import BIN, ROOT, Process


def found():
    return {message.id: message for message in run_checks(tags=["tasklog"])}


def test_the_site_has_nothing_to_find():
    assert found() == {}


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"OUTBOKS": True}, "Did you mean OUTBOX?"),
        ({"xyzzy": True}, "Remove it."),
    ],
)
def test_a_name_that_does_not_exist(tasklog, choices, said):
    with tasklog(**choices):
        message = found()["tasklog.E001"]
    assert next(iter(choices)) in message.msg
    assert message.hint == said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRACK", "yes"),
        ("OUTBOX", 1),
        ("SEND_EVERY", 0),
        ("SEND_EVERY", "5"),
        ("SEND_EVERY", 0.5),
        ("END_LOST_EVERY", -1),
        ("BATCH_SIZE", 0),
        ("BATCH_SIZE", 1.5),
        ("RESEND_AFTER", -1),
        ("DATABASES", ["other"]),
        ("DATABASES", "default"),
        ("RESULTS_DATABASE", "other"),
        ("FORCE_JSON", None),
    ],
)
def test_a_value_of_the_wrong_kind(tasklog, name, value):
    with tasklog(**{name: value}):
        message = found()["tasklog.E002"]
    assert message.msg == f"TASKLOG[{name!r}] is {value!r}."
    assert message.hint


def test_values_of_the_right_kind(tasklog):
    right = {"SEND_EVERY": 1, "BATCH_SIZE": 1, "RESEND_AFTER": 0, "DATABASES": ["default"]}
    with tasklog(**right, RESULTS_DATABASE="default", FORCE_JSON=True):
        assert not [key for key in found() if key.startswith("tasklog.E")]


@pytest.fixture
def other_app(monkeypatch):
    """Let the checks see another application: ``other_app(task_always_eager=True)``."""

    def use(make=tasklog_app.Celery, tasks=(), **configuration):
        app = make("other", set_as_current=False)
        for name in set(app.tasks) - {task.name for task in tasks}:  # those of other tests
            del app.tasks[name]
        app.conf.update({"result_backend": "tasklog.backends:DatabaseBackend", **configuration})
        monkeypatch.setattr("tasklog.checks.current_app", Proxy(lambda: app))

    return use


def test_an_application_of_celery_itself(other_app):
    other_app(celery.Celery)
    assert "import Celery from tasklog" in found()["tasklog.E003"].hint


def test_eager_calls(other_app):
    other_app(task_always_eager=True)
    assert "none is recorded" in found()["tasklog.W001"].msg


def test_results_elsewhere(other_app):
    other_app()
    assert found() == {}
    other_app(result_backend="cache+memory://")
    assert "stays PENDING" in found()["tasklog.W002"].msg


def test_a_results_backend_that_does_not_exist(other_app):
    other_app(result_backend="tasklog.backend:DatabaseBackend")
    assert "No module named 'tasklog.backend'" in found()["tasklog.E004"].msg


def test_nobody_sends_what_waits(tasklog):
    with tasklog(OUTBOX=True, SEND_EVERY=None):
        assert "send_due_calls" in found()["tasklog.W003"].hint


def test_without_anything_asked_for_there_is_nothing_to_say(tasklog, other_app):
    other_app(celery.Celery, task_always_eager=True)
    with tasklog():
        assert found() == {}


def test_without_the_app_of_the_results(folder):
    """Django's own words for it name a model's label, and no way out."""
    code = (
        "import django; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['tasklog']); django.setup()"
    )
    process = Process([BIN / "python", "-c", code], folder / "log", cwd=ROOT)
    assert process.wait() == 1
    assert 'add "django_celery_results" to INSTALLED_APPS' in process.output


def test_the_readme_lists_each_setting_with_its_default():
    readme = (ROOT / "tasklog" / "README.md").read_text()
    table = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", readme, re.MULTILINE))
    assert table == {name: repr(value) for name, value in conf.DEFAULTS.items()}


@shared_task(outbox=True)
def asks():
    """Wants the outbox, whatever the site does."""


def test_a_task_that_asks_for_itself(other_app, tasklog):
    """Nothing is on for the site, and still there is something that can be missing."""
    other_app(celery.Celery, tasks=[asks])
    with tasklog():
        assert "tasklog.E003" in found()
    other_app(tasks=[asks])
    with tasklog(SEND_EVERY=None):
        assert set(found()) == {"tasklog.W003"}


def test_without_the_app_itself(folder):
    """Its own checks are not there then; that of its application is."""
    code = (
        "import django; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['django_celery_results']); import tasklog;"
        "django.setup(); from django.core.management import call_command; call_command('check')"
    )
    process = Process([BIN / "python", "-c", code], folder / "log", cwd=ROOT)
    assert process.wait() == 1
    assert 'Add "tasklog" to INSTALLED_APPS' in process.output


def test_times_without_a_zone(settings):
    settings.USE_TZ = False
    assert "USE_TZ = True" in found()["tasklog.E006"].hint
