"""Fixtures: a PostgreSQL, the broker's queue, looked at from outside, and a broker that is away."""

import json
import tempfile
from pathlib import Path

import dj_database_url
import pytest
from celery import current_app
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from tests.conftest import need
from tests.services import Postgres, free_port


@pytest.fixture(scope="module")
def postgres_alias(django_db_setup, django_db_blocker):
    """A PostgreSQL, as a database of Django's by the name of `postgres`."""
    with tempfile.TemporaryDirectory(prefix="blog-") as folder, django_db_blocker.unblock():
        Path(folder).chmod(0o711)  # for a server that does not run as root
        server = need(lambda: Postgres(Path(folder) / "postgres")).start()
        default = {**connections.settings["default"], "OPTIONS": {}}
        connections.settings["postgres"] = {**default, **dj_database_url.parse(server.url)}
        call_command("migrate", database="postgres", verbosity=0)
        yield "postgres"
        connections["postgres"].close()
        del connections["postgres"], connections.settings["postgres"]
        server.stop()


@pytest.fixture
def tasklog():
    """Choose settings: ``with tasklog(TRACK=True): …``. What is not named is off."""
    return lambda **choices: override_settings(TASKLOG=choices)


@pytest.fixture
def configure():
    """Set Celery settings for the test: ``configure(result_extended=False)``."""
    conf, before = current_app.conf, {}

    def change(**settings):
        for name, value in settings.items():
            before.setdefault(name, conf[name])
            setattr(conf, name, value)

    yield change
    for name, value in before.items():
        setattr(conf, name, value)


@pytest.fixture
def backend(monkeypatch):
    """tasklog's results backend, which is the application's for the test."""
    from tasklog.backends import DatabaseBackend

    app = current_app._get_current_object()
    backend = DatabaseBackend(app)
    monkeypatch.setattr(app._local, "backend", backend, raising=False)
    return backend


@pytest.fixture
def messages(redis_server, transactional_db):
    """What is in the queue: ``messages()`` is a list of headers, the oldest first."""
    client = redis_server.client()
    client.flushdb()

    def read(queue="celery"):
        return [json.loads(raw)["headers"] for raw in reversed(client.lrange(queue, 0, -1))]

    yield read
    client.flushdb()


@pytest.fixture
def broker_away(monkeypatch):
    """Let calls find no broker, until ``broker_away.undo()``."""
    app = current_app._get_current_object()

    def forget_connections():
        app._pool = app.amqp._producer_pool = None
        app._away_until = 0

    monkeypatch.setattr(app.conf, "broker_write_url", f"redis://127.0.0.1:{free_port()}/0")
    forget_connections()
    yield monkeypatch
    monkeypatch.undo()
    forget_connections()
