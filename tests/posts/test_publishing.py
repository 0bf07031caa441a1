from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from posts.models import Post
from posts.tasks.publishing import publish_due_posts


def test_due_posts_come_out_and_others_stay(make_post):
    make_post("due", status="scheduled", days=-1)
    make_post("early", status="scheduled", days=1)
    make_post("draft", status="draft")
    make_post("out", status="published", days=-2)
    assert publish_due_posts() == 1
    status = dict(Post.objects.values_list("title", "status"))
    assert status == {
        "due": "published", "early": "scheduled", "draft": "draft", "out": "published",
    }  # fmt: skip


def test_a_post_keeps_the_date_that_it_was_scheduled_for(make_post):
    when = make_post(status="scheduled", days=-1).published_at
    publish_due_posts()
    assert Post.objects.get().published_at == when


def test_a_second_run_finds_nothing(make_post):
    make_post(status="scheduled", days=-1)
    assert (publish_due_posts(), publish_due_posts()) == (1, 0)


@pytest.mark.parametrize("status", ["scheduled", "published"])
def test_only_drafts_may_lack_a_date(make_post, status):
    with pytest.raises(IntegrityError), transaction.atomic():
        make_post(status=status, published_at=None)


def test_publishing_again_keeps_the_date(make_post):
    post = make_post()
    when = post.published_at
    post.publish()
    assert post.published_at == when


def test_publishing_a_scheduled_post_dates_it_now(make_post):
    post = make_post(status="scheduled", days=3)
    post.publish()
    assert abs(post.published_at - timezone.now()) < timedelta(seconds=10)
    assert post.status == "published"


def test_a_draft_loses_its_date(make_post):
    post = make_post()
    post.unpublish()
    assert (post.status, post.published_at) == ("draft", None)
