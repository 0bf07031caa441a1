from xml.etree import ElementTree

import pytest


def feed_of(client):
    response = client.get("/feed/")
    assert response["Content-Type"].startswith("application/rss+xml")
    return ElementTree.fromstring(response.content).find("channel")


def test_the_feed_has_published_posts_newest_first(client, make_post):
    make_post("old", days=-2)
    make_post("new", days=-1)
    make_post("draft", status="draft")
    make_post("scheduled", status="scheduled", days=1)
    assert [item.findtext("title") for item in feed_of(client).iter("item")] == ["new", "old"]


def test_an_item_has_the_whole_text_a_date_and_an_absolute_link(client, make_post):
    post = make_post(body="Some *text* <script>alert(1)</script>")
    item = feed_of(client).find("item")
    assert "<em>text</em>" in item.findtext("description")
    assert "<script" not in item.findtext("description")
    assert item.findtext("link") == "http://testserver/posts/hello/"
    assert item.findtext("pubDate") == post.published_at.strftime("%a, %d %b %Y %H:%M:%S +0000")
    assert item.findtext("{http://purl.org/dc/elements/1.1/}creator") == "Ada"


def test_the_feed_ends_after_twenty(client, make_post):
    for n in range(21):
        make_post(f"post {n}", days=-n)
    assert len(list(feed_of(client).iter("item"))) == 20


def test_one_control_character_does_not_break_the_feed(client, make_post):
    make_post("Bell\x07", slug="bell", body="Te\x0bxt")
    item = feed_of(client).find("item")
    assert (item.findtext("title"), item.findtext("description")) == ("Bell", "<p>Text</p>")


def test_the_feed_takes_one_query(client, make_post, django_assert_num_queries):
    for n in range(3):
        make_post(f"post {n}")
    with django_assert_num_queries(1):
        client.get("/feed/")


@pytest.mark.django_db
def test_an_empty_feed_is_a_feed(client):
    assert feed_of(client).findtext("title") == "Later"


def test_the_sitemap_has_the_pages_and_published_posts(client, make_post):
    post = make_post()
    make_post("draft", status="draft")
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    urls = ElementTree.fromstring(client.get("/sitemap.xml").content).findall(f"{space}url")
    found = {url.findtext(f"{space}loc"): url.findtext(f"{space}lastmod") for url in urls}
    assert found == {
        "http://testserver/": None,
        "http://testserver/archive/": None,
        "http://testserver/posts/hello/": post.updated_at.date().isoformat(),
    }
