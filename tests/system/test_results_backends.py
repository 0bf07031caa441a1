"""The same tasks with their results in the database, in Redis and in Django's cache."""

import pytest
from celery import current_app, states
from celery.exceptions import TimeoutError
from celery.result import AsyncResult
from django.test import override_settings
from django_celery_results.models import TaskResult

from blog.celery import square
from posts.models import Export
from posts.progress import progress_of
from posts.runs import start_run
from posts.tasks.basics import add, fail_sometimes, sample_task
from posts.tasks.export import export_blog
from posts.tasks.failures import call_busy_service
from tests.services import wait_for

DATABASE = "tasklog.backends:DatabaseBackend"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module", params=[DATABASE, "django-db", "redis", "django-cache"])
def backend(request, redis_server):
    """A results backend, for this process and for the worker."""
    name = redis_server.url(1) if request.param == "redis" else request.param
    cache = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": redis_server.url(2),
    }
    app = current_app._get_current_object()
    before = app.conf.result_backend

    def use(value):
        app.conf.result_backend = value
        app._backend_cache = None
        app._local.backend = None

    use(name)
    with override_settings(CACHES={"default": cache}):
        yield request.param
    use(before)


@pytest.fixture(scope="module", autouse=True)
def worker(start_once, backend, redis_server):
    env = {
        "CELERY_RESULT_BACKEND": current_app.conf.result_backend,
        "CACHE_URL": redis_server.url(2),
    }
    worker = start_once.worker(env=env)
    yield worker
    worker.stop()


def test_a_value_comes_back(backend):
    result = square.delay(5)
    assert result.get(timeout=20) == 25
    assert result.successful()
    assert result.ready()
    assert not result.failed()


def test_extended_properties_come_back():
    """G2.6, R3: CELERY_RESULT_EXTENDED."""
    result = add.delay(2, 3, seconds=0)
    result.get(timeout=20)
    meta = current_app.backend.get_task_meta(result.id)
    # The database backend calls it task_name, so there AsyncResult.name is None.
    assert meta.get("name", meta.get("task_name")) == "posts.tasks.basics.add"
    assert "2" in str(result.args)
    assert "seconds" in str(result.kwargs)
    assert result.worker.startswith("test")
    assert result.date_done is not None


def test_an_exception_comes_back():
    result = fail_sometimes.delay("a parcel", chance=1)
    with pytest.raises(ValueError, match="Something went wrong with 'a parcel'"):
        result.get(timeout=20)
    assert result.failed()
    assert "in fail_sometimes" in result.traceback


def test_the_lucky_side_of_fail_sometimes():
    assert fail_sometimes.delay("a parcel", chance=0).get(timeout=20) == "Processed a parcel"


def test_sample_task_greets():
    assert sample_task.delay(name="you").get(timeout=20) == "Hello you"


def test_the_states_on_the_way():
    """T3: PENDING, STARTED, SUCCESS, each seen from outside."""
    assert AsyncResult("00000000-0000-0000-0000-000000000000").state == states.PENDING
    result = add.delay(1, 2, seconds=3)
    wait_for(lambda: result.state == states.STARTED, "STARTED")
    assert not result.ready()
    with pytest.raises(TimeoutError):
        result.get(timeout=0.1)
    assert result.get(timeout=20) == 3
    assert result.state == states.SUCCESS


def test_a_result_is_found_again_by_its_id():
    """T2."""
    task_id = square.delay(4).id
    assert AsyncResult(task_id).get(timeout=20) == 16


def test_a_forgotten_result_is_pending_again():
    result = square.delay(4)
    result.get(timeout=20)
    result.forget()
    assert AsyncResult(result.id).state == states.PENDING


def test_results_are_where_they_belong(backend, redis_server):
    """G2.2: with the database no result is in Redis."""
    redis_server.client(db=1).flushdb()
    redis_server.client(db=2).flushdb()
    result = square.delay(6)
    result.get(timeout=20)
    key = f"celery-task-meta-{result.id}"
    place = "database" if backend in (DATABASE, "django-db") else backend
    found = {
        "database": TaskResult.objects.filter(task_id=result.id).exists(),
        "redis": bool(redis_server.client(db=1).exists(key)),
        "django-cache": bool(redis_server.client(db=2).exists(f":1:{key}")),
    }
    assert found == {name: name == place for name in found}
    assert not redis_server.client(db=0).exists(key)


def test_a_run_says_how_it_goes(staff):
    """What the site's pages show, from each backend."""
    run = start_run(staff, add, x=1, y=2, seconds=3)
    assert progress_of(run).took is None
    wait_for(lambda: progress_of(run).state == states.STARTED, "STARTED")
    assert progress_of(run).worker.startswith("test")
    wait_for(lambda: progress_of(run).finished, "the end")
    progress = progress_of(run)
    assert (progress.state, progress.result, progress.error) == (states.SUCCESS, 3, "")
    assert 3 <= progress.took.total_seconds() < 60


def test_a_failed_run_says_why(staff):
    run = start_run(staff, fail_sometimes, value="x", chance=1)
    wait_for(lambda: progress_of(run).finished, "the end")
    progress = progress_of(run)
    assert progress.state == states.FAILURE
    assert progress.error == "ValueError: Something went wrong with 'x'"
    assert "in fail_sometimes" in progress.traceback


def test_tries_are_counted_in_each_backend(staff):
    run = start_run(staff, call_busy_service, failures=1)
    wait_for(lambda: progress_of(run).finished, "the end")
    assert progress_of(run).retries == 1


def test_an_export_tells_how_far_it_is(staff, make_posts):
    make_posts(5)
    run = start_run(staff, export_blog, owner_id=staff.pk)
    seen = set()

    def finished():
        progress = progress_of(run)
        if progress.state == "PROGRESS":
            seen.add(progress.percent)
        return progress.finished

    wait_for(finished, "the export")
    assert len(seen) >= 3
    assert seen <= {0, 20, 40, 60, 80, 100}
    assert progress_of(run).result["posts"] == 5
    export = Export.objects.get(task_id=run.task_id)
    assert export.owner == staff
    assert export.file.size == progress_of(run).result["bytes"]
