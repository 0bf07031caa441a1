import re
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse

from posts.tasks.analysis import analyse_post
from posts.templatetags.posts_tags import ago

from .helpers import text_of


def titles(response):
    return [post.title for post in response.context["page"]]


def test_the_list_shows_published_posts_newest_first(client, make_post):
    make_post("old", days=-9)
    make_post("new", days=-1)
    make_post("draft", status="draft")
    make_post("scheduled", status="scheduled", days=1)
    assert titles(client.get("/")) == ["new", "old"]


def test_the_list_has_pages_and_says_which(client, make_post):
    for n in range(12):
        make_post(f"post {n}", days=-n)
    first, last = client.get("/"), client.get("/?page=3")
    assert len(titles(first)) == 5
    assert 'rel="next" href="?page=2"' in text_of(first)
    assert 'rel="prev"' not in text_of(first)
    assert titles(last) == ["post 10", "post 11"]
    assert 'rel="next"' not in text_of(last)
    assert "Page 3 of 3" in text_of(last)


@pytest.mark.parametrize("page", ["0", "99", "x", ""])
def test_a_page_that_does_not_exist_is_the_nearest(client, make_post, page):
    make_post()
    assert titles(client.get("/", {"page": page})) == ["Hello"]


def test_search_looks_for_each_word_in_title_and_text(client, make_post):
    make_post("Redis at night", body="About queues.")
    make_post("Rabbits", body="About redis and hares.")
    make_post("Hares", status="draft", body="redis")
    assert titles(client.get("/", {"q": "redis"})) == ["Rabbits", "Redis at night"]
    assert titles(client.get("/", {"q": "REDIS queues"})) == ["Redis at night"]
    assert titles(client.get("/", {"q": "redis rabbitmq"})) == []


def test_search_takes_wildcards_as_they_are(client, make_post):
    make_post("All", body="anything")
    make_post("Percent", body="100 % sure_thing")
    assert titles(client.get("/", {"q": "%"})) == ["Percent"]
    assert titles(client.get("/", {"q": "sure_t"})) == ["Percent"]
    assert titles(client.get("/", {"q": "sure_x"})) == []


def test_search_keeps_its_words_across_pages(client, make_post):
    for n in range(6):
        make_post(f"queue {n}", days=-n)
    response = client.get("/", {"q": "queue"})
    assert 'value="queue"' in text_of(response)
    assert 'href="?q=queue&page=2"' in text_of(response)


def test_a_search_that_finds_nothing_names_the_words(client, make_post):
    make_post()
    assert "No post contains “zebra”." in " ".join(text_of(client.get("/?q=zebra")).split())


@pytest.mark.parametrize("query", ["a\x00b", "x" * 101])
def test_a_search_that_cannot_be_is_explained_and_not_an_error(client, make_post, query):
    make_post()
    response = client.get("/", {"q": query})
    assert response.status_code == 200
    assert 'class="errorlist"' in text_of(response)


def test_searched_words_are_escaped(client, db):
    assert b"<script>alert" not in client.get("/", {"q": "<script>alert(1)</script>"}).content


def test_empty_pages_say_what_would_be_here(client, db):
    assert "There is none yet" in text_of(client.get("/"))
    assert "There is none yet" in text_of(client.get("/archive/"))


def test_staff_are_offered_the_first_step(writer):
    assert reverse("posts:new") in text_of(writer.get("/"))


def test_a_post_is_rendered_with_its_author_and_date(client, make_post):
    make_post(published_at=datetime(2024, 2, 29, 12, tzinfo=UTC), body="Some *text*.")
    page = text_of(client.get("/posts/hello/"))
    assert "<em>text</em>" in page
    assert "Ada" in page
    assert "29 February 2024" in page
    assert 'datetime="2024-02-29T12:00:00+00:00"' in page


def test_reading_time_is_shown_when_it_is_known(client, make_post):
    post = make_post(body="word " * 500)
    assert "min to read" not in text_of(client.get("/posts/hello/"))
    analyse_post(post.pk)
    assert "3 min to read" in text_of(client.get("/posts/hello/"))
    assert "3 min to read" in text_of(client.get("/"))


@pytest.mark.parametrize("status", ["draft", "scheduled"])
def test_only_staff_see_what_is_not_published(status, make_post, client, reader, author):
    make_post(status=status, days=1)
    assert reader.get("/posts/hello/").status_code == 404
    client.logout()
    assert client.get("/posts/hello/").status_code == 404
    client.force_login(author)
    response = client.get("/posts/hello/")
    assert response.status_code == 200
    assert f"<strong>{status.capitalize()}.</strong>" in text_of(response)


def test_the_archive_groups_by_year_and_month(client, make_post):
    for title, date in (("a", (2023, 12, 31)), ("b", (2024, 1, 1)), ("c", (2024, 1, 2))):
        make_post(title, published_at=datetime(*date, 12, tzinfo=UTC))
    make_post("draft", status="draft")
    page = text_of(client.get("/archive/"))
    headings = re.findall(r"<h[23][^>]*>([^<]*)</h[23]>", page)
    assert headings == ["2024", "January", "2023", "December"]
    assert re.findall(r'href="/posts/(\w+)/"', page) == ["c", "b", "a"]


def test_the_archive_goes_by_the_site_s_clock(client, make_post, settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    make_post(published_at=datetime(2023, 12, 31, 20, tzinfo=UTC))
    headings = re.findall(r"<h[23][^>]*>([^<]*)</h[23]>", text_of(client.get("/archive/")))
    assert headings == ["2024", "January"]


@pytest.mark.parametrize(("url", "queries"), [("/", 2), ("/archive/", 1), ("/?q=text", 2)])
@pytest.mark.parametrize("posts", [1, 5])
def test_more_posts_take_no_more_queries(
    client, make_post, django_assert_num_queries, url, queries, posts
):
    for n in range(posts):
        analyse_post(make_post(f"post {n}", cover="covers/x.png").pk)
    with django_assert_num_queries(queries):
        client.get(url)


def test_a_post_takes_one_query(client, make_post, django_assert_num_queries):
    make_post()
    with django_assert_num_queries(1):
        client.get("/posts/hello/")


def test_the_list_does_not_read_the_texts(client, make_post, django_assert_num_queries):
    make_post()
    with django_assert_num_queries(2) as queries:
        client.get("/")
    assert '"body"' not in queries[1]["sql"]


def test_readers_get_neither_scripts_nor_cookies(client, make_post):
    make_post()
    for url in ("/", "/archive/", "/posts/hello/"):
        response = client.get(url)
        assert b"<script" not in response.content
        assert not response.cookies


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "/archive/",
        "/posts/hello/",
        "/write/",
        "/write/new/",
        "/write/{pk}/",
        "/accounts/login/",
    ],
)
def test_no_page_has_inline_scripts_or_styles(writer, make_post, url):
    post = make_post(body="```python\nx = 1\n```\n\n| a |\n|--:|\n| 1 |\n")
    page = text_of(writer.get(url.format(pk=post.pk)))
    assert re.findall(r"<script(?![^>]* src=)", page) == []
    assert "<style" not in page
    assert re.findall(r"<[^>]*\s(?:style|on\w+)=", page) == []
    assert '"includeIndicatorStyles": false' in page
    assert re.search(r"""hx-headers='{"X-CSRFToken": "\w{64}"}'""", page)


@pytest.mark.parametrize("url", ["/", "/archive/", "/accounts/login/"])
def test_pages_have_their_landmarks(client, db, url):
    page = text_of(client.get(url))
    assert '<html lang="en">' in page
    assert page.count("<main") == page.count("<h1") == 1
    assert '<a class="skip" href="#main">' in page
    assert 'aria-current="page"' in page
    assert 'type="application/rss+xml"' in page


def test_what_is_not_there_is_a_page_of_ours(client, db):
    response = client.get("/nope/<b>/")
    assert response.status_code == 404
    assert "There is no page at <code>/nope/<b>/</code>" in text_of(response)
    assert b"/nope/<b>/" not in response.content


def test_our_mistakes_are_a_page_of_ours(client, db, monkeypatch):
    client.raise_request_exception = False
    monkeypatch.setattr("posts.views.blog.Paginator", None)
    response = client.get("/")
    assert response.status_code == 500
    assert "Something went wrong on the server" in text_of(response)


def test_a_form_without_its_token_is_explained(make_post):
    from django.test import Client

    response = Client(enforce_csrf_checks=True).post("/accounts/login/")
    assert response.status_code == 403
    assert "Nothing was changed." in text_of(response)


@pytest.mark.parametrize(
    ("past", "words"),
    [
        ({"seconds": 0}, "now"),
        ({"seconds": 3.9}, "3 s ago"),
        ({"seconds": 119}, "119 s ago"),
        ({"minutes": 2}, "2 min ago"),
        ({"hours": 47}, "47 h ago"),
        ({"days": 2}, "2 d ago"),
        ({"hours": -3}, "in 3 h"),
    ],
)
def test_times_are_said_in_words_with_the_exact_one_in_the_title(past, words):
    moment = datetime(2026, 1, 31, 9, 5, 7, tzinfo=UTC)
    html = ago(moment, moment + timedelta(**past))
    assert f">{words}</time>" in html
    assert 'datetime="2026-01-31T09:05:07+00:00"' in html
    assert 'title="31 January 2026, 09:05:07 UTC"' in html


def test_no_time_is_nothing():
    assert ago(None) == ""
