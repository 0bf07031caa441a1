"""How blog/celery.py connects Celery with Django: see also tests/system."""

import os
import subprocess
import sys

import pytest

from tests.services import ROOT


def say(expression, **env):
    """What an expression is in a process that knows nothing but the project."""
    env = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, "DEBUG": "true", **env}
    command = [sys.executable, "-c", f"from blog.celery import app; print({expression})"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


@pytest.mark.proves("blog.secrets")
def test_secrets():
    """Without it, `celery -A blog report` shows the passwords in URLs, such as the broker's."""
    report = say("app.bugreport()", CELERY_BROKER_URL="redis://:hidden-word@there/")
    assert "CELERY_BROKER_URL" in report
    assert "hidden-word" not in report


@pytest.mark.proves("os.environ.setdefault")
def test_django_settings_module():
    """Without it, `celery -A blog worker` ends with «settings are not configured»."""
    assert say("app.conf.result_extended, app.fixups != []") == "True True"


@pytest.mark.proves("app.config_from_object")
def test_config_from_object():
    """Without it, Celery reads none of the settings, and looks for RabbitMQ."""
    assert say("app.conf.task_time_limit") == "300"


@pytest.mark.proves("app.autodiscover_tasks")
def test_autodiscover_tasks():
    """Without it, Celery's programs know the tasks that something else happens to import: those of
    `posts`, by its signals, and those of tasklog only where the system checks run."""
    names = "(app.loader.import_default_modules(), sorted(app.tasks))"
    assert "'tasklog.send_due_calls'" in say(names, CELERY_SKIP_CHECKS="true")


@pytest.mark.proves("CELERY_CACHE_BACKEND")
def test_cache_backend():
    """Without it, results in the cache go to the cache «default», whatever the environment says."""
    env = {"CELERY_RESULT_BACKEND": "django-cache", "CELERY_CACHE_BACKEND": "other"}
    assert "The connection 'other' doesn't exist." in say(
        "__import__('django').setup() or app.backend.cache_backend", **env
    )


@pytest.mark.proves("CELERY_BROKER_URL#2")
def test_broker_url_in_parts():
    """Without it, a RabbitMQ that is named by BROKER_HOST and the others is never asked."""
    env = {"BROKER_USER": "u", "BROKER_PASSWORD": "p@ss", "BROKER_HOST": "there"}
    env |= {"BROKER_PORT": "5673", "BROKER_VHOST": "/"}
    assert say("app.conf.broker_url", **env) == "amqp://u:p%40ss@there:5673/%2F"
