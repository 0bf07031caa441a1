"""What tasklog does on PostgreSQL alone."""

import re

import pytest
from celery import states
from celery.result import AsyncResult
from celery.utils import uuid
from django.db import connections, transaction
from django_celery_results.models import TaskResult

from tasklog.models import TaskCall
from tests.services import ROOT

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

# Writes down what a commit of each UPDATE would wait for.
WATCH = """
    CREATE TABLE durability (setting text);
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO durability VALUES (current_setting('synchronous_commit'));
        RETURN NEW;
    END $$;
    CREATE TRIGGER watch BEFORE UPDATE ON tasklog_taskcall
        FOR EACH ROW EXECUTE FUNCTION watch();
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


def test_in_a_transaction_it_leaves_the_durability_of_all_else(postgres_alias, call, durability):
    with transaction.atomic(using=postgres_alias):
        call.mark_sent(postgres_alias)
    assert durability() == ["on"]


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
