"""The system checks for Celery's configuration."""

import pytest
from celery import current_app
from django.utils.module_loading import autodiscover_modules

from blog import checks
from posts.tasks.export import export_blog


def found(check):
    return [message.msg for message in check()]


@pytest.fixture
def conf():
    """Celery's configuration, put back after the test."""
    autodiscover_modules("tasks")  # a task keeps the limit that holds when it is made
    app = current_app._get_current_object()
    before = {key: app.conf[key] for key in ("broker_transport_options", "task_time_limit")}
    yield app.conf
    app.conf.update(before)


def test_the_configuration_has_no_error():
    for check in (
        checks.check_option_names,
        checks.check_broker,
        checks.check_result_backend,
        checks.check_cache_alias,
        checks.check_time_limits,
    ):
        assert found(check) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CELERY_TASK_MAX_RETRIES", "Did you mean"),
        ("CELERY_TASK_TIME_LIMITS", "Did you mean CELERY_TASK_TIME_LIMIT?"),
        ("CELERY_WORKER_LOG_LEVEL", "Did you mean"),
        ("CELERY_QQQQ", "Remove it."),
    ],
)
def test_an_unknown_option_is_named(settings, name, hint):
    setattr(settings, name, 3)
    (error,) = checks.check_option_names()
    assert error.msg == f"{name} is not a Celery option, so it does nothing."
    assert error.hint.startswith(hint)


def test_a_lower_case_option_is_named(monkeypatch):
    """Django reads upper-case names only: `celery_result_backend` is never seen."""
    import tests.settings

    monkeypatch.setattr(tests.settings, "celery_result_backend", "django-db", raising=False)
    (error,) = checks.check_option_names()
    assert "celery_result_backend is not a Celery option" in error.msg
    assert error.hint == "Did you mean CELERY_RESULT_BACKEND?"


def test_a_time_limit_beyond_the_visibility_timeout_is_named(conf):
    conf.task_time_limit = conf.broker_transport_options["visibility_timeout"]
    (message,) = found(checks.check_time_limits)
    assert "CELERY_TASK_TIME_LIMIT is 600 s" in message


def test_a_task_with_a_time_limit_beyond_the_visibility_timeout_is_named(conf, monkeypatch):
    monkeypatch.setattr(export_blog, "time_limit", 3000)
    (message,) = found(checks.check_time_limits)
    assert "The time limit of posts.tasks.export.export_blog is 3000 s" in message


def test_without_a_visibility_timeout_the_default_of_an_hour_counts(conf):
    conf.broker_transport_options = {}
    assert found(checks.check_time_limits) == []
    conf.task_time_limit = 3601
    assert "after 3600 s" in found(checks.check_time_limits)[0]
