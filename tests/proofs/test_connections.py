"""When a worker closes its connection to the database: see also tests/system/test_database.py."""

import psycopg
import pytest
from celery import current_app

from tests.services import wait_for
from tests.system.test_database import result_of
from tests.tasks import backend_pid

FAST = {"DJANGO_SETTINGS_MODULE": "tests.proofs.settings"}


def backends(postgres, seconds=3600):
    """The process ids of the connections that are not older than that."""
    age = "now() - backend_start < make_interval(secs => %s)"
    with psycopg.connect(postgres.url) as database:
        found = database.execute(f"SELECT pid FROM pg_stat_activity WHERE {age}", [seconds])
        return [pid for (pid,) in found]


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
    """Without it, a connection that has grown older than conn_max_age while the worker was idle
    serves one more task."""
    start_worker(**FAST)
    first = result_of(own_postgres, backend_pid.delay().id)
    wait_for(lambda: int(first) not in backends(own_postgres, seconds=2), "it to grow old")
    assert result_of(own_postgres, backend_pid.delay().id) != first


@pytest.mark.proves("signals.task_postrun")
def test_task_postrun(start_worker, own_postgres):
    """Without it, a connection that has grown older than conn_max_age stays open for as long as
    the worker is idle."""
    start_worker(**FAST)
    # It takes longer than conn_max_age, which these settings make a second.
    task = current_app.send_task("tests.proofs.tasks.slow_backend_pid")
    pid = int(result_of(own_postgres, task.id))
    wait_for(lambda: pid not in backends(own_postgres), "the connection to be closed")
