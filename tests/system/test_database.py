"""Workers and their database: connections live by the rules of requests; SQLite never locks."""

import re

import pytest
from celery import chain, chord
from django.db import connection
from django_celery_results.models import TaskResult

from blog.celery import square
from posts.tasks.basics import add
from tests.services import wait_for
from tests.tasks import backend_pid, count_nothing, total

THIRTY = range(30)


@pytest.mark.sqlite
def test_ten_chords_of_thirty_on_sqlite(start):
    """The SQLite options in settings.DATABASES: without them most of these fail."""
    worker = start.worker("--include", "tests.tasks", "-c", "4")
    results = [chord(square.s(n) for n in THIRTY)(total.s()) for _ in range(10)]
    assert [result.get(timeout=60) for result in results] == [sum(n * n for n in THIRTY)] * 10
    assert "database is locked" not in worker.output
    assert not TaskResult.objects.exclude(status="SUCCESS").exists()


@pytest.mark.proves("DATABASES.init_command", fails="database is locked")
@pytest.mark.sqlite
def test_a_reader_does_not_block_a_writer(transactional_db):
    """Without journal_mode=WAL, whoever writes waits for everybody who reads, and may fail."""
    reader = connection.copy()
    try:
        with reader.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")
            cursor.execute("SELECT count(*) FROM django_celery_results_taskresult")
            with connection.cursor() as writer:
                writer.execute("PRAGMA busy_timeout = 100")
            TaskResult.objects.create(task_id="written meanwhile")
            cursor.execute("ROLLBACK")
    finally:
        reader.close()
    assert TaskResult.objects.filter(task_id="written meanwhile").exists()


@pytest.fixture
def on_postgres(start, own_postgres):
    """A worker of one process whose database is this test's own PostgreSQL, migrated."""
    env = {"DATABASE_URL": own_postgres.url}
    migrate = start("python", "manage.py", "migrate", env=env)
    assert migrate.wait(60) == 0, migrate.output
    return start.worker("--include", "tests.tasks", "-c", "1", env=env)


def run_there(postgres):
    """Run `backend_pid` and return the process id of the database connection it ran on."""
    return result_of(postgres, backend_pid.delay().id)


def result_of(postgres, task_id):
    """Wait for a task's result, and return it.

    It is read from PostgreSQL directly: this process has another database.
    """
    import psycopg

    def row():
        with psycopg.connect(postgres.url) as database:
            return database.execute(
                "SELECT status, result FROM django_celery_results_taskresult "
                "WHERE task_id = %s AND date_done IS NOT NULL AND status IN ('SUCCESS', 'FAILURE')",
                [task_id],
            ).fetchone()

    status, result = wait_for(row, f"the result of {task_id}")
    assert status == "SUCCESS", result
    return result


@pytest.mark.proves("CELERY_DB_REUSE_MAX", "DATABASES.conn_max_age")
def test_a_connection_is_kept_between_tasks(on_postgres, own_postgres):
    """Without it, each task opens a new connection, for two or three times the cost of the task's
    own storing."""
    assert run_there(own_postgres) == run_there(own_postgres)


@pytest.mark.proves("DATABASES.conn_health_checks")
def test_a_dead_connection_is_replaced(on_postgres, own_postgres):
    """A PostgreSQL that restarts between two tasks fails neither. Without it, the first task of
    each process after a restart fails where it asks the database."""

    def run():
        task_id = count_nothing.delay().id
        end = re.compile(rf"count_nothing\[{task_id}\] (succeeded|raised)")
        return wait_for(lambda: end.search(on_postgres.output), f"the end of {task_id}")[1]

    assert run() == "succeeded"
    own_postgres.stop()
    own_postgres.start()
    assert run() == "succeeded"
    assert "OperationalError" not in on_postgres.output


def test_a_result_finds_a_dead_connection_by_itself(on_postgres, own_postgres):
    """Storing asks nothing first, and tries again with a new connection."""
    before = run_there(own_postgres)
    own_postgres.stop()
    own_postgres.start()
    assert run_there(own_postgres) != before
    assert on_postgres.output.count("Failed operation _store_result") == 1


@pytest.mark.proves("CELERY_RESULT_BACKEND_ALWAYS_RETRY")
def test_a_task_that_ends_while_the_database_is_away(on_postgres, own_postgres):
    """It is SUCCESS all the same. Without it, such a task is stored as FAILURE, or not at all."""
    task_id = add.delay(20, 22, seconds=3).id
    on_postgres.wait_for_output(f"add[{task_id}] received")
    wait_for(lambda: state_of(own_postgres, task_id) == "STARTED", "the task at work")
    own_postgres.stop()
    on_postgres.wait_for_output("Failed operation _store_result")
    own_postgres.start()
    assert result_of(own_postgres, task_id) == "42"


def state_of(postgres, task_id):
    import psycopg

    with psycopg.connect(postgres.url) as database:
        row = database.execute(
            "SELECT status FROM django_celery_results_taskresult WHERE task_id = %s", [task_id]
        ).fetchone()
    return row and row[0]


def test_the_next_task_of_a_chain_when_the_database_is_away(on_postgres, own_postgres):
    """It is written down before it is sent, so the worker waits for the database there too."""
    first = chain(add.s(3, 4, seconds=3), square.s()).delay().parent
    wait_for(lambda: state_of(own_postgres, first.id) == "STARTED", "the task at work")
    own_postgres.stop()
    on_postgres.wait_for_output("is not written down yet")
    own_postgres.start()
    assert result_of(own_postgres, first.id) == "7"
    on_postgres.wait_for_output("succeeded", count=2)
