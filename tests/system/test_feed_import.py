"""Imports by a real worker."""

import pytest
from django_celery_results.models import TaskResult

from posts.models import Analysis, Post
from posts.tasks.feeds import import_feed
from tests import feeds
from tests.feeds import FeedServer
from tests.services import wait_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def worker(start_once):
    return start_once.worker(env={"FEED_ALLOW_PRIVATE": "true"})


@pytest.fixture
def server():
    server = FeedServer().start()
    yield server
    server.stop()


def ended(result):
    return wait_for(
        lambda: TaskResult.objects.filter(
            task_id=result.id, status__in=["SUCCESS", "FAILURE"]
        ).first(),
        lambda: f"the import: {TaskResult.objects.values()}",
    )


def test_an_import_that_has_to_wait(worker, server, staff):
    """First 503, then 429 with Retry-After, then the feed. Its drafts are analysed."""
    server.pages["/feed"] = [
        (503, {}, "down"),
        (429, {"Retry-After": "1"}, "slowly"),
        feeds.WORDPRESS,
    ]
    result = import_feed.delay(url=server.url(), author_id=staff.pk)
    assert ended(result).status == "SUCCESS"
    assert result.get() == {"new": 2, "known": 0}
    assert len(server.requests) == 3
    assert set(Post.objects.values_list("status", "author")) == {("draft", staff.pk)}
    wait_for(lambda: Analysis.objects.count() == 2, "the analyses")


def test_what_is_wrong_fails_at_once_and_says_why(worker, server, staff):
    row = ended(import_feed.delay(url=server.url("/gone"), author_id=staff.pk))
    assert row.status == "FAILURE"
    assert "/gone answers 404 Not Found." in row.result
    assert "FetchError" in row.traceback
    assert len(server.requests) == 1


def test_five_imports_at_once_make_each_draft_once(worker, server, staff):
    server.pages["/feed"] = feeds.many(20)
    calls = [import_feed.delay(url=server.url(), author_id=staff.pk) for _ in range(5)]
    assert sum(call.get(timeout=30)["new"] for call in calls) == 20
    assert Post.objects.count() == 20
    wait_for(lambda: Analysis.objects.count() == 20, "the analyses")
