"""When a worker closes its connection to the database: see also tests/system/test_database.py."""

import psycopg
import pytest
from celery import current_app

from tests.services import wait_for
from tests.system.test_database import result_of
from tests.tasks import backend_pid

FAST = {"DJANGO_SETTINGS_MODULE": "tests.proofs.settings"}


def backends(postgres):
    """The process ids of the connections of others."""
    with psycopg.connect(postgres.url) as database:
        return [pid for (pid,) in database.execute("SELECT pid FROM pg_stat_activity")]


@pytest.fixture
def start_worker(start, own_postgres):
    """Start a worker of one process, whose database is this test's own: ``start_worker()``."""
    start.env["DATABASE_URL"] = own_postgres.url
    migrate = start("python", "manage.py", "migrate")
    assert migrate.wait(60) == 0, migrate.output
    include = ["--include", "tests.tasks,tests.proofs.tasks"]
    return lambda **env: start.worker(*include, "-c", "1", env=env)


@pytest.mark.proves("signals.task_prerun")
def test_task_prerun(start_worker, own_postgres):
    """Without it, a task whose result nobody wants fails, as the first of its process after a
    restart of PostgreSQL. With a result, storing STARTED has found the dead connection before."""
    worker = start_worker()
    backend_pid.apply_async(ignore_result=True)
    worker.wait_for_output("succeeded")
    own_postgres.stop()
    own_postgres.start()
    backend_pid.apply_async(ignore_result=True)
    wait_for(
        lambda: worker.output.count("succeeded") == 2 or "Error" in worker.output, "the second"
    )
    assert worker.output.count("succeeded") == 2, worker.output


@pytest.mark.proves("signals.task_postrun")
def test_task_postrun(start_worker, own_postgres):
    """Without it, a connection that has grown older than conn_max_age stays open for as long as
    the worker is idle."""
    start_worker(**FAST)
    # It takes longer than conn_max_age, which these settings make a second.
    task = current_app.send_task("tests.proofs.tasks.slow_backend_pid")
    pid = int(result_of(own_postgres, task.id))
    wait_for(lambda: pid not in backends(own_postgres), "the connection to be closed")
