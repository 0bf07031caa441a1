"""Each sample task with a real worker: what it does, the failure it is about, the repeat."""

import io
import shutil
from uuid import uuid4

import pytest
from celery import current_app, states
from django.conf import settings
from django.utils import timezone
from django_celery_results.models import TaskResult
from PIL import Image

from posts import images
from posts.lessons import LESSONS, plan_of
from posts.models import Export, Post, Run
from posts.progress import progress_of
from posts.runs import cancel_run, part_id, start_run
from posts.tasks.basics import add, fail_sometimes
from posts.tasks.export import export_blog
from posts.tasks.failures import call_busy_service, kill_own_process, overrun
from posts.tasks.workflow import blog_report, collect_posts, count_words
from tests.services import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def serve(worker):
    """All tests need the worker."""


def end_of(run):
    """Wait until a run has ended, and return how."""
    wait_for(lambda: look(run).settled, lambda: f"the end of {run}: {look(run)}")
    return look(run)


def look(run):
    run.refresh_from_db()
    return progress_of(run, plan_of(run))


def start_report(staff, **arguments):
    return LESSONS["report"].start(staff, {"seconds": 0, "fail": "", **arguments})


def by_name(progress):
    return {part.name: part for part in progress.parts}


def states_of(progress):
    return {part.name: part.state for part in progress.parts}


# --- Failures -------------------------------------------------------------------------------------


def test_at_the_soft_limit_a_task_gets_an_exception(staff):
    progress = end_of(start_run(staff, overrun))
    assert (progress.state, progress.error) == (states.FAILURE, "SoftTimeLimitExceeded")
    assert "in overrun" in progress.traceback


def test_at_the_hard_limit_the_process_is_killed(staff):
    progress = end_of(start_run(staff, overrun, stubborn=True))
    assert (progress.state, progress.error) == (states.FAILURE, "TimeLimitExceeded")


def test_a_task_whose_process_dies_ends_as_failure_and_runs_once(staff, worker):
    """It is not handed to the next process, and the worker goes on."""
    run = start_run(staff, kill_own_process)
    progress = end_of(run)
    assert progress.state == states.FAILURE
    assert progress.error.startswith("WorkerLostError: Worker exited prematurely: signal 9")
    assert add.delay(1, 2, seconds=0).get(timeout=20) == 3
    assert worker.output.count(f"[{run.task_id}] received") == 1
    assert look(run).state == states.FAILURE


def test_a_task_tries_again_until_it_is_answered(staff):
    progress = end_of(start_run(staff, call_busy_service, failures=1))
    assert (progress.state, progress.result) == (states.SUCCESS, "Answered at try 2")
    assert progress.retries == 1
    assert (progress.waited, progress.ran) != (None, None)


def test_a_task_gives_up_in_the_end(staff, monkeypatch):
    run = start_run(staff, call_busy_service, failures=9)
    assert end_of(run).error == "Busy: The service is busy (try 3)"
    assert look(run).retries == 2


def test_a_failure_by_chance_and_the_lucky_side(staff):
    assert end_of(start_run(staff, fail_sometimes, value="x", chance=1)).state == states.FAILURE
    assert end_of(start_run(staff, fail_sometimes, value="x", chance=0)).result == "Processed x"


# --- The workflow ---------------------------------------------------------------------------------


@pytest.fixture
def posts(make_posts):
    text = "Two words, [a link](https://example.org/a) and [one](https://example.com/)."
    make_posts(2)
    Post.objects.update(body=text, status="published", published_at="2025-01-01T00:00Z")


def test_a_report_is_put_together(staff, posts):
    progress = end_of(start_report(staff))
    assert progress.state == states.SUCCESS
    assert progress.result == {"words": 12, "minutes": 2, "links": 4, "hosts": 2}
    assert states_of(progress) == dict.fromkeys(
        ("collect_posts", "count_words", "count_links", "combine_report"), states.SUCCESS
    )
    assert progress.on_error.state == states.PENDING, "not called"
    assert all(part.worker and part.ran is not None for part in progress.parts)


def test_the_two_parts_in_the_middle_run_at_the_same_time(staff, posts):
    run = start_report(staff, seconds=3)

    def together():
        parts = by_name(look(run))
        return parts["count_words"].running and parts["count_links"].running

    wait_for(together, lambda: f"both parts at work: {look(run)}")
    assert not by_name(look(run))["combine_report"].begun
    cancel(run)
    end_of(run)


@pytest.mark.parametrize("part", ["collect_posts", "count_words", "count_links", "combine_report"])
def test_a_failing_part_fails_the_report_and_is_recorded_once(staff, worker, part):
    run = start_report(staff, fail=part)
    progress = end_of(run)
    assert progress.state == states.FAILURE
    assert progress.error == f"{part}: ReportError: {part} was asked to fail"
    assert "Traceback" in progress.traceback
    assert progress.on_error.state == states.SUCCESS
    assert f"{part} was asked to fail" in progress.on_error.result
    task_id = part_id(run.task_id, "report_failed")
    recorded = f"report_failed[{task_id}] succeeded"
    assert worker.wait_for_output(recorded).output.count(recorded) == 1
    ran = {name: part.worker != "" for name, part in by_name(progress).items()}
    if part == "collect_posts":
        assert not any(ran[name] for name in ("count_words", "count_links", "combine_report"))
    elif part != "combine_report":
        assert ran == {**ran, "count_words": True, "count_links": True, "combine_report": False}


def test_a_report_sent_twice_is_one_report(staff, posts, worker):
    """The same ids: the second run of the parts has the results of the first."""
    run = start_report(staff)
    first = end_of(run)
    assert first.state == states.SUCCESS
    number = TaskResult.objects.count()
    blog_report(str(run.task_id)).apply_async()
    for part in ("count_words", "count_links"):
        worker.wait_for_output(f"{part}[{part_id(run.task_id, part)}] succeeded", count=2)
    assert (end_of(run).state, look(run).result) == (states.SUCCESS, first.result)
    assert TaskResult.objects.count() == number


# --- Images ---------------------------------------------------------------------------------------


def set_cover(post, content):
    Post.objects.filter(pk=post.pk).update(cover=f"covers/{post.pk}.jpg")
    path = settings.MEDIA_ROOT / "covers" / f"{post.pk}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def post(make_posts):
    make_posts(1)
    post = Post.objects.get()
    data = io.BytesIO()
    Image.new("RGB", (1600, 800), "teal").save(data, "JPEG")
    set_cover(post, data.getvalue())
    yield post
    shutil.rmtree(images.folder_of(post.pk), ignore_errors=True)


def start_images(staff, post):
    return LESSONS["images"].start(staff, {"post_id": post.pk})


def test_a_cover_gets_a_thumbnail_of_each_width_and_the_repeat_is_the_same(staff, post):
    for _ in range(2):
        progress = end_of(start_images(staff, post))
        assert progress.state == states.SUCCESS
        assert set(states_of(progress)) == {"make_thumbnails", *map(str, images.WIDTHS)}
        post.refresh_from_db()
        assert list(images.thumbnails(post.pk, post.cover.name)) == list(images.WIDTHS)
        assert len(list(images.folder_of(post.pk).iterdir())) == len(images.WIDTHS)


def test_a_damaged_cover_fails_with_a_clear_error(staff, post):
    set_cover(post, b"no picture")
    progress = end_of(start_images(staff, post))
    assert progress.state == states.FAILURE
    assert "BadImage: " in progress.error
    assert "is no image of these types: AVIF, GIF, JPEG" in progress.error


def test_images_and_exports_wait_in_the_queue_for_slow_work(redis_server):
    """So that short tasks do not wait behind them."""
    assert route("posts.tasks.images.make_thumbnail") == "slow"
    assert route("posts.tasks.export.export_blog") == "slow"
    assert route("posts.tasks.workflow.count_words") == "celery"


def route(name):
    return current_app.amqp.router.route({}, name)["queue"].name


# --- Cancelling -----------------------------------------------------------------------------------


def partials():
    return list(settings.EXPORT_ROOT.glob(".partial-*"))


def cancel(run):
    cancel_run(run, plan_of(run))


def test_an_export_at_work_is_cancelled_and_leaves_nothing(staff, make_posts):
    make_posts(5)
    run = start_run(staff, export_blog, owner_id=staff.pk)
    wait_for(lambda: look(run).done, "progress")
    assert partials()
    cancel(run)
    assert end_of(run).state == states.REVOKED
    wait_for(lambda: not partials(), "the half-written file to be removed")
    cancel(run)
    # The worker has replaced the process, and the state stays what it is.
    again = start_run(staff, export_blog, owner_id=staff.pk)
    assert end_of(again).state == states.SUCCESS
    assert TaskResult.objects.get(task_id=run.task_id).status == states.REVOKED
    assert list(Export.objects.values_list("task_id", flat=True)) == [again.task_id]


@pytest.fixture
def no_free_process(staff, worker):
    """Both processes of the worker are busy for a while."""
    busy = [start_run(staff, add, x=1, y=1, seconds=60) for _ in range(2)]
    wait_for(lambda: all(look(run).running for run in busy), "a busy worker")
    yield
    for run in busy:
        cancel(run)
        assert end_of(run).state == states.REVOKED


def test_an_export_that_waits_for_a_process_is_cancelled(staff, make_posts, no_free_process):
    make_posts(1)
    run = start_run(staff, export_blog, owner_id=staff.pk)
    cancel(run)
    assert look(run).state == states.REVOKED
    for other in Run.objects.filter(task=add.name):
        cancel(other)
    wait_for(lambda: TaskResult.objects.filter(task_id=run.task_id).exists(), "its turn")
    assert TaskResult.objects.get(task_id=run.task_id).status == states.REVOKED
    assert not Export.objects.exists()


def test_a_workflow_is_cancelled_with_all_its_parts(staff):
    run = start_report(staff, seconds=30)
    wait_for(lambda: look(run).running, "the first part")
    cancel(run)
    assert end_of(run).state == states.REVOKED
    wait_for(lambda: look(run).on_error.finished, "its error callback, which is cancelled too")
    assert set(states_of(look(run)).values()) <= {states.REVOKED, states.PENDING}


def test_a_workflow_is_cancelled_in_the_middle(staff, posts):
    run = start_report(staff, seconds=3)
    wait_for(lambda: by_name(look(run))["count_words"].running, "the middle")
    cancel(run)
    progress = end_of(run)
    assert progress.state == states.REVOKED
    assert not by_name(progress)["combine_report"].worker
    wait_for(lambda: look(run).on_error.finished, "its error callback, which is cancelled too")


def test_a_cancelled_run_does_not_begin_even_if_no_worker_has_heard_of_it(staff, make_posts):
    """As with a worker that starts later. What a task knows of it stands in the database."""
    make_posts(1)
    run = Run.objects.create(
        task_id=uuid4(), task=export_blog.name, started_by=staff, cancelled_at=timezone.now()
    )
    result = export_blog.apply_async(kwargs={"owner_id": staff.pk}, task_id=str(run.task_id))
    wait_for(lambda: result.state == states.REVOKED, lambda: f"REVOKED, not {result.state}")
    assert add.delay(1, 1, seconds=0).get(timeout=20) == 2
    assert not Export.objects.exists()
    assert result.state == states.REVOKED


def test_no_part_of_a_cancelled_run_begins(staff):
    """A part knows its run by its root_id, however late it is sent."""
    run = Run.objects.create(
        task_id=uuid4(), task=collect_posts.name, started_by=staff, cancelled_at=timezone.now()
    )
    part = count_words.apply_async(([],), root_id=str(run.task_id))
    other = count_words.apply_async(([],))
    assert other.get(timeout=20) == {"words": 0, "minutes": 0}
    wait_for(lambda: part.state == states.REVOKED, lambda: f"REVOKED, not {part.state}")
