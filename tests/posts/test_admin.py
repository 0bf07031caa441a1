import uuid

import pytest

from posts.models import (
    Delivery,
    Export,
    Feed,
    FeedEntry,
    Newsletter,
    Post,
    Run,
    Subscriber,
)
from posts.tasks.analysis import analyse_post


@pytest.fixture
def run(author):
    return Run.objects.create(
        task_id=uuid.uuid4(), task="posts.tasks.basics.add", arguments={"x": 1}, started_by=author
    )


@pytest.fixture
def export(author):
    return Export.objects.create(task_id=uuid.uuid4(), owner=author, file="1/blog.zip")


def test_the_list_can_be_searched_filtered_and_dated(admin_client, make_post):
    make_post("Queues", body="about redis")
    make_post("Other", status="draft")
    page = admin_client.get("/admin/posts/post/", {"q": "redis"}).content.decode()
    assert "Queues" in page
    assert "Other" not in page
    page = admin_client.get("/admin/posts/post/", {"status__exact": "draft"}).content.decode()
    assert "Other" in page
    assert "Queues" not in page


def test_a_list_of_more_posts_takes_no_more_queries(
    admin_client, make_post, django_assert_max_num_queries
):
    for n in range(10):
        make_post(f"post {n}")
    with django_assert_max_num_queries(9):
        admin_client.get("/admin/posts/post/")


def test_a_post_is_edited_but_its_analysis_is_not(admin_client, make_post, author):
    post = make_post()
    analyse_post(post.pk)
    url = f"/admin/posts/post/{post.pk}/change/"
    page = admin_client.get(url).content.decode()
    assert "reading minutes" in page.lower()
    assert 'name="analysis-0-words"' not in page
    typed = {
        "title": "New title", "slug": "", "body": "x", "author": author.pk, "status": "draft",
        "published_at_0": "", "published_at_1": "",
        "analysis-TOTAL_FORMS": "1", "analysis-INITIAL_FORMS": "1",
        "analysis-0-id": post.analysis.pk, "analysis-0-post": post.pk, "analysis-0-words": "999",
    }  # fmt: skip
    assert admin_client.post(url, typed).status_code == 302
    post = Post.objects.get()
    assert (post.title, post.slug, post.status) == ("New title", "new-title", "draft")
    assert post.analysis.words != 999


def test_a_published_post_without_a_date_is_refused_in_words(admin_client, make_post, author):
    post = make_post()
    typed = {
        "title": "x", "body": "x", "author": author.pk, "status": "published",
        "analysis-TOTAL_FORMS": "0", "analysis-INITIAL_FORMS": "0",
    }  # fmt: skip
    response = admin_client.post(f"/admin/posts/post/{post.pk}/change/", typed)
    assert "A scheduled or published post needs a publish date." in response.content.decode()


def test_a_post_can_be_deleted(admin_client, make_post):
    post = make_post()
    analyse_post(post.pk)
    admin_client.post(f"/admin/posts/post/{post.pk}/delete/", {"post": "yes"})
    assert not Post.objects.exists()


def test_runs_are_listed_and_read_only(admin_client, run):
    page = admin_client.get("/admin/posts/run/").content.decode()
    assert str(run.task_id) in page
    assert "posts.tasks.basics.add" in page
    assert "ada" in page
    assert admin_client.get("/admin/posts/run/add/").status_code == 403
    page = admin_client.get(f"/admin/posts/run/{run.pk}/change/").content.decode()
    assert 'name="_save"' not in page


def test_exports_are_listed_and_read_only_and_not_handed_out(admin_client, export):
    page = admin_client.get("/admin/posts/export/").content.decode()
    assert str(export.task_id) in page
    assert admin_client.get("/admin/posts/export/add/").status_code == 403
    response = admin_client.get(f"/admin/posts/export/{export.pk}/change/")
    assert response.status_code == 200
    assert b"/media/" not in response.content


@pytest.fixture
def delivery(make_post):
    newsletter = Newsletter.objects.create(post=make_post(), summary="1 sent, 0 refused")
    subscriber = Subscriber.objects.create(email="ada@example.org")
    return Delivery.objects.create(newsletter=newsletter, subscriber=subscriber, status="sent")


@pytest.fixture
def entry(make_post):
    feed = Feed.objects.create(url="https://kettle.example/feed/", title="Kettle")
    return FeedEntry.objects.create(feed=feed, key="0" * 64, post=make_post("Imported"))


def test_what_tasks_write_can_be_looked_at(admin_client, delivery, entry):
    rows = [delivery.newsletter, delivery.subscriber, delivery, entry.feed, entry]
    for row in rows:
        url = f"/admin/posts/{row._meta.model_name}/"
        assert str(row.pk) in admin_client.get(url).content.decode()
        assert admin_client.get(f"{url}{row.pk}/change/").status_code == 200
        editable = row is delivery.subscriber
        assert (admin_client.get(f"{url}add/").status_code == 200) == editable
        assert (admin_client.post(f"{url}{row.pk}/change/").status_code != 403) == editable


def test_a_post_that_was_mailed_can_be_deleted(admin_client, delivery):
    post = delivery.newsletter.post
    admin_client.post(f"/admin/posts/post/{post.pk}/delete/", {"post": "yes"})
    assert not Post.objects.exists()
    assert Subscriber.objects.exists()


def test_one_address_in_other_letters_is_refused_in_words(admin_client, delivery):
    typed = {"email": "ADA@example.org"}
    page = admin_client.post("/admin/posts/subscriber/add/", typed).content.decode()
    assert "This address is a subscriber already." in page
