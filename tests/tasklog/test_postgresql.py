"""What tasklog does on PostgreSQL alone."""

import re

import pytest
from celery import states
from celery.result import AsyncResult
from celery.utils import uuid
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext
from django_celery_results.models import TaskResult

from tasklog.models import TaskCall
from tests.services import ROOT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

# Writes down what each commit waits for: deferred, so that it looks at the end.
WATCH = """
    CREATE TABLE durability (setting text);
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO durability VALUES (current_setting('synchronous_commit'));
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER watch AFTER UPDATE ON tasklog_taskcall
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch();
    CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR UPDATE ON django_celery_results_taskresult
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch();
"""


@pytest.fixture
def database(postgres_alias):
    with connections[postgres_alias].cursor() as cursor:
        yield cursor


@pytest.fixture
def call(postgres_alias):
    return TaskCall.objects.using(postgres_alias).create(task_id=uuid(), name="a.task")


@pytest.fixture
def durability(database, call):
    """Ask what the commits of updates have waited for."""
    database.execute(WATCH)

    def ask():
        database.execute("SELECT setting FROM durability")
        return [setting for (setting,) in database]

    yield ask
    database.execute("DROP FUNCTION watch CASCADE; DROP TABLE durability")


def test_the_note_that_a_call_was_sent_does_not_wait_for_the_disk(
    postgres_alias, database, call, durability
):
    call.mark_sent(postgres_alias)
    assert durability() == ["off"]
    call.refresh_from_db()
    assert call.sent_at is not None
    database.execute("SHOW synchronous_commit")
    assert database.fetchone() == ("on",)


@pytest.fixture
def stored_there(postgres_alias, backend, monkeypatch):
    """The backend, with PostgreSQL as its database."""
    monkeypatch.setattr(type(backend), "alias", postgres_alias)
    return backend


@pytest.mark.parametrize("tracked", [True, False])
def test_only_the_end_of_a_task_waits_for_the_disk(
    stored_there, database, configure, durability, tracked
):
    """A task that a power cut takes back to PENDING is found, one that has ended is not lost."""
    configure(task_track_started=tracked)
    task_id = uuid()
    stored_there.mark_as_started(task_id)
    stored_there.mark_as_started(task_id)  # delivered again
    stored_there.store_result(task_id, {"done": 1}, "PROGRESS")
    stored_there.mark_as_retry(task_id, ValueError())
    assert durability() == ["off"] * 4
    stored_there.mark_as_failure(task_id, ValueError())
    stored_there.mark_as_done(task_id, 3)
    assert durability() == ["off"] * 4 + ["on"] * 2
    database.execute("SHOW synchronous_commit")
    assert database.fetchone() == ("on",)


def test_in_a_transaction_all_else_stays_durable(postgres_alias, stored_there, call, durability):
    with transaction.atomic(using=postgres_alias):
        call.mark_sent(postgres_alias)
        stored_there.mark_as_started(uuid())
    assert durability() == ["on"] * 2


def test_in_a_transaction_without_atomic_too(postgres_alias, stored_there, call, durability):
    connection = connections[postgres_alias]
    connection.set_autocommit(False)
    try:
        call.mark_sent(postgres_alias)
        stored_there.mark_as_started(uuid())
        connection.commit()
    finally:
        connection.set_autocommit(True)
    assert durability() == ["on"] * 2


@pytest.mark.parametrize("tries_again", [True, False])
def test_a_connection_that_died_between_two_tasks(
    stored_there, postgres_alias, monkeypatch, tries_again
):
    """Asked before the store where that is tried once, else not."""
    monkeypatch.setattr(stored_there, "always_retry", tries_again)
    connection = connections[postgres_alias]
    connection.ensure_connection()
    monkeypatch.setattr(connection, "health_check_enabled", True)
    monkeypatch.setattr(connection, "close_at", None)
    with connection.copy().cursor() as other:
        other.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        other.db.close()
    asked = []
    monkeypatch.setattr(connection, "is_usable", lambda: asked.append(1))
    connection.close_if_unusable_or_obsolete()  # as before each task
    task_id = uuid()
    stored_there.mark_as_started(task_id)
    assert bool(asked) == (not tries_again)
    assert TaskResult.objects.using(postgres_alias).get().task_id == task_id


@pytest.fixture
def connection(postgres_alias):
    """A connection that is closed afterwards, with what a test has set in it."""
    connection = connections[postgres_alias]
    connection.ensure_connection()
    yield connection
    connection.close()


@pytest.mark.parametrize(("threshold", "planned"), [(None, 0), (0, 2)])
def test_statements_of_results_are_planned_once_where_the_connection_says_so(
    stored_there, connection, database, threshold, planned
):
    """None is Django's default: PgBouncer could not have it."""
    connection.connection.prepare_threshold = threshold
    for task_id in (uuid(), uuid()):
        stored_there.mark_as_started(task_id)
        stored_there.mark_as_done(task_id, 3)
    database.execute("SELECT count(*) FROM pg_prepared_statements WHERE statement ~ 'taskresult'")
    assert database.fetchone() == (planned,)


def test_in_debug_django_shows_the_statements_of_results(stored_there, connection):
    connection.connection.prepare_threshold = 0
    task_id = uuid()
    with CaptureQueriesContext(connection) as seen:
        stored_there.mark_as_started(task_id)
        stored_there.mark_as_done(task_id, 3)
    assert ["STARTED" in seen[0]["sql"], "SUCCESS" in seen[1]["sql"]] == [True, True]


@pytest.fixture(scope="module", autouse=True)
def results(postgres_alias):
    """The connection for results that tasklog's README shows."""
    (listing,) = re.findall(
        r'^DATABASES\["results"\].*?^}', (ROOT / "tasklog" / "README.md").read_text(), re.M | re.S
    )
    known = {"default": connections.settings[postgres_alias]}
    exec(listing, {"DATABASES": known})
    connections.settings["results"] = known["results"]
    yield "results"
    connections["results"].close()
    del connections["results"], connections.settings["results"]


def test_a_connection_for_results_waits_for_no_disk_and_survives_a_restart(
    results, database, backend, tasklog, configure
):
    configure(result_backend_always_retry=True)
    backend.always_retry = True
    task_id = uuid()
    with tasklog(RESULTS_DATABASE=results):
        backend.mark_as_started(uuid())
        backend.mark_as_started(task_id)  # the same statement once more
        with connections[results].cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == ("off",)
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
            cursor.execute("SELECT count(*) FROM pg_prepared_statements")
            assert cursor.fetchone() > (0,)
        database.execute("SELECT pg_terminate_backend(%s)", [pid])
        backend.mark_as_done(task_id, {"words": 3})
        assert AsyncResult(task_id).get(timeout=5) == {"words": 3}
    assert TaskResult.objects.using(results).get(task_id=task_id).status == states.SUCCESS
