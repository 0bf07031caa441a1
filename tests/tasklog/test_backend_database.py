"""Results with a database connection of their own: TASKLOG["RESULTS_DATABASE"]."""

import pytest
from celery import states, uuid
from celery.result import AsyncResult, GroupResult
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django_celery_results.models import ChordCounter, TaskResult

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "results"])


@pytest.fixture(scope="module", autouse=True)
def alias(django_db_setup):
    """A second connection to the test database, by the name of `results`."""
    connections.settings["results"] = connections.settings["default"]
    yield
    connections["results"].close()
    del connections["results"]
    del connections.settings["results"]


@pytest.fixture
def default_is_unused():
    """Fail when the other connection was used for anything but calls, which are always there."""
    with CaptureQueriesContext(connection) as asked:
        yield
    assert not [q for q in asked.captured_queries if "tasklog_taskcall" not in q["sql"]]


def test_everything_goes_there(backend, tasklog, default_is_unused):
    task_id, group_id = uuid(), uuid()
    with tasklog(RESULTS_DATABASE="results"):
        backend.mark_as_started(task_id)
        backend.mark_as_done(task_id, 42)
        result = AsyncResult(task_id)
        assert result.get(timeout=1) == 42
        assert GroupResult(uuid(), [result]).get(timeout=1) == [42]
        GroupResult(group_id, [result]).save()
        assert GroupResult.restore(group_id).id == group_id
        backend.apply_chord((group_id, [result]), None)
        assert ChordCounter.objects.using("results").count() == 1
        backend.delete_group(group_id)
        backend.cleanup()
        backend.forget(task_id)


def test_one_store_elsewhere(backend, default_is_unused):
    """R5: the argument ``using``."""
    backend._store_result("an-id", 1, states.SUCCESS, using="results")
    assert TaskResult.objects.using("results").get().task_id == "an-id"
