"""Bad values are named at start-up, by settings.py itself or by a system check."""

import os
import re
import subprocess
import sys

import pytest

from tests.services import ROOT

PRODUCTION = {
    "DEBUG": "false",
    "SECRET_KEY": "x9" * 15 + "a-key-only-for-this-test-0123456789",
    "ALLOWED_HOSTS": "blog.example.org",
}


def manage(*arguments, **env):
    """Run manage.py with the given variables alone. Returns the CompletedProcess."""
    env = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, **env}
    command = [sys.executable, "-W", "ignore", "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def test_the_production_check_has_no_warning():
    result = manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout


@pytest.mark.parametrize("name", ["SECRET_KEY", "ALLOWED_HOSTS"])
def test_production_needs(name):
    result = manage("check", **{**PRODUCTION, name: ""})
    assert result.returncode == 1
    assert f"{name} is not set. Set it to" in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("DEBUG", "perhaps", 'Environment variable "DEBUG" invalid'),
        ("EXPORT_SECONDS", "soon", 'Environment variable "EXPORT_SECONDS" invalid'),
        ("EXPORT_KEEP_DAYS", "week", 'Environment variable "EXPORT_KEEP_DAYS" invalid'),
        ("EMAIL_URL", "sntp://mail.example.org", "EMAIL_URL is of no known kind"),
        ("DATABASE_URL", "oracool://x", "oracool"),
        ("CELERY_RESULT_BACKEND", "django-bd", "CELERY_RESULT_BACKEND 'django-bd' does not exist"),
        ("CELERY_BROKER_URL", "reddis://x", "names no transport that Celery has: 'reddis'"),
        ("CELERY_BROKER_URL", "localhost:6379", "no transport that Celery has: 'localhost:6379'"),
        ("CELERY_BROKER_URL", "amqp://None:None@None:None/None", "it contains «None»"),
    ],
)
def test_a_bad_variable_is_named(variable, value, message):
    result = manage("check", **{"DEBUG": "true", variable: value})
    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("backend", "alias", "message"),
    [
        ("django-cache", "redis", "CELERY_CACHE_BACKEND 'redis' is not in CACHES"),
        ("django-cache", "default", "which is each process's own memory"),
    ],
)
def test_results_in_a_cache_that_cannot_hold_them(backend, alias, message):
    result = manage(
        "check",
        "--fail-level=WARNING",
        DEBUG="true",
        CELERY_RESULT_BACKEND=backend,
        CELERY_CACHE_BACKEND=alias,
    )
    assert result.returncode == 1
    assert message in result.stderr


RABBITMQ = {
    "BROKER_USER": "blog",
    "BROKER_PASSWORD": "p@ss:w/rd#1",
    "BROKER_HOST": "rabbit.example.org",
    "BROKER_PORT": "5673",
    "BROKER_VHOST": "/",
}


def test_rabbitmq_in_parts():
    """Whatever the password holds arrives, and RabbitMQ gets no option of Redis."""
    result = manage(
        "shell",
        "-v0",
        "-c",
        "from django.conf import settings; from celery import current_app as app;"
        "c = app.connection_for_write();"
        "print(c.userid, c.password, c.hostname, c.port, c.virtual_host);"
        "print(app.conf.worker_disable_prefetch, app.conf.broker_transport_options)",
        DEBUG="true",
        **RABBITMQ,
    )
    assert result.stdout.splitlines() == [
        "blog p@ss:w/rd#1 rabbit.example.org 5673 /",
        "False {'confirm_publish': True}",
    ]


@pytest.mark.parametrize("name", RABBITMQ)
def test_rabbitmq_needs_all_its_parts(name):
    result = manage("check", DEBUG="true", **{**RABBITMQ, name: ""})
    assert result.returncode == 1
    assert f"{name} not set. RabbitMQ needs all of BROKER_USER, " in result.stderr


def test_variables_of_the_process_win_over_the_file(tmp_path):
    """First the process's environment, then .env, then what `make run` left, then the default."""
    (tmp_path / ".env").write_text("DEBUG=true\nTIME_ZONE=Europe/Paris\nEXPORT_SECONDS=7\n")
    (tmp_path / "run.env").write_text("EXPORT_SECONDS=8\nCELERY_BROKER_URL=redis://here:1/0\n")
    result = manage(
        "shell",
        "-v0",
        "-c",
        "from django.conf import settings as s;"
        "print(s.TIME_ZONE, s.EXPORT_SECONDS, s.CELERY_BROKER_URL, s.CELERY_RESULT_BACKEND)",
        ENV_FILE=str(tmp_path / ".env"),
        STATE_DIR=str(tmp_path),
        TIME_ZONE="Asia/Tokyo",
    )
    assert result.stdout.split() == [
        "Asia/Tokyo",
        "7.0",
        "redis://here:1/0",
        "tasklog.backends:DatabaseBackend",
    ]


def test_each_variable_that_is_read_is_in_the_example_file_and_the_reverse():
    read = set()
    for name in ("blog/settings.py", "scripts/run.py"):
        source = (ROOT / name).read_text()
        read |= set(re.findall(r'env\.\w+\(\s*"([A-Z_]+)"', source))
    listed = re.findall(r"^#? ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert set(listed) == read - {"ENV_FILE"}
    assert len(listed) == len(set(listed))
