"""Each sample task with a real worker: what it does, the failure it is about, the repeat."""

import io
import shutil

import pytest
from celery import current_app, states
from django.conf import settings
from django_celery_results.models import TaskResult
from PIL import Image

from posts import images
from posts.exports import PARTIAL
from posts.lessons import LESSONS, plan_of
from posts.models import Export, Post, Run
from posts.runs import cancel_run, part_id, progress_of, start_run
from posts.tasks.basics import add, fail_sometimes
from posts.tasks.export import export_blog
from posts.tasks.failures import call_busy_service, kill_own_process, overrun
from posts.tasks.workflow import blog_report
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
    progress = end_of(start_report(staff, seconds=0.5))
    first, words, links, last = progress.parts
    assert max(words.started, links.started) < min(words.ended, links.ended)
    assert first.started < min(words.started, links.started)
    assert last.started > max(words.started, links.started)


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
    assert worker.output.count(f"report_failed[{task_id}] succeeded") == 1
    ran = {name: part.worker != "" for name, part in by_name(progress).items()}
    if part == "collect_posts":
        assert not any(ran[name] for name in ("count_words", "count_links", "combine_report"))
    elif part != "combine_report":
        assert ran == {**ran, "count_words": True, "count_links": True, "combine_report": False}


def test_a_report_sent_twice_is_one_report(staff, posts):
    """The same ids: the second run of the parts writes what the first wrote."""
    run = start_report(staff)
    assert end_of(run).state == states.SUCCESS
    number = TaskResult.objects.count()
    blog_report(str(run.task_id)).apply_async()
    last = part_id(run.task_id, "combine_report")
    before = TaskResult.objects.get(task_id=last).date_done
    wait_for(lambda: TaskResult.objects.get(task_id=last).date_done > before, "the second run")
    assert end_of(run).state == states.SUCCESS
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
    return list(settings.EXPORT_ROOT.glob(f"{PARTIAL}*"))


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
    assert set(states_of(look(run)).values()) <= {states.REVOKED, states.PENDING}


def test_a_workflow_is_cancelled_in_the_middle(staff, posts):
    run = start_report(staff, seconds=1)
    wait_for(lambda: by_name(look(run))["count_words"].running, "the middle")
    cancel(run)
    progress = end_of(run)
    assert progress.state == states.REVOKED
    assert not by_name(progress)["combine_report"].worker
