"""When a worker closes its connection to the database: see also tests/system/test_database.py."""

import psycopg
import pytest
from celery import current_app

from tests.services import wait_for
from tests.system.test_database import result_of


def backends(postgres):
    """The process ids of the connections of others."""
    with psycopg.connect(postgres.url) as database:
        return [pid for (pid,) in database.execute("SELECT pid FROM pg_stat_activity")]


@pytest.mark.proves("signals.task_postrun")
def test_task_postrun(start, own_postgres):
    """Without it, a connection that has grown older than conn_max_age stays open for as long as
    the worker is idle."""
    env = {"DATABASE_URL": own_postgres.url, "DJANGO_SETTINGS_MODULE": "tests.proofs.settings"}
    migrate = start("python", "manage.py", "migrate", env=env)
    assert migrate.wait(60) == 0, migrate.output
    start.worker("--include", "tests.proofs.tasks", "-c", "1", env=env)
    # It takes longer than conn_max_age, which these settings make a second.
    task = current_app.send_task("tests.proofs.tasks.slow_backend_pid")
    pid = int(result_of(own_postgres, task.id))
    wait_for(lambda: pid not in backends(own_postgres), "the connection to be closed")
