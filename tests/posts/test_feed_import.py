"""Imports from a local web server: what feeds in the world look like, and hostile ones."""

import gzip
import re
import socket
import ssl
import time
import tracemalloc
from datetime import UTC, datetime

import feedparser
import httpx
import pytest
from celery import current_app
from celery.exceptions import Retry

from posts import feed_import, fetching
from posts.feed_import import NotAFeed, import_entries
from posts.fetching import Document, FetchError, TryLater
from posts.markup import to_html
from posts.models import Feed, FeedEntry, Post
from posts.tasks import feeds as tasks
from tests import feeds
from tests.feeds import FeedServer, many, rss, zipped


@pytest.fixture
def server(settings):
    settings.FEED_ALLOW_PRIVATE = True
    server = FeedServer().start()
    yield server
    server.stop()


@pytest.fixture
def load(server, author):
    """Import what a server answers: ``load(body)``."""

    def load(page=None, path="/feed"):
        if page is not None:
            server.pages[path] = page
        return import_entries(server.url(path), author.pk)

    return load


def shown():
    """All posts as readers would see them."""
    return "".join(to_html(post.body) for post in Post.objects.all())


# --- Shapes of feeds ------------------------------------------------------------------------------


def test_wordpress(load, server, author):
    assert load(feeds.WORDPRESS) == {"new": 2, "known": 0}
    second, first = Post.objects.order_by("-pk")
    assert first.title == "Why we boil water twice & again"
    assert (first.status, first.published_at, first.author) == ("draft", None, author)
    page = to_html(first.body)
    assert "<em>whole</em> text of *it*." in page  # HTML stays HTML: it is no Markdown.
    assert "boil()\n\nboil()" in page
    assert f'src="{server.url("/img/kettle.jpg")}"' in page
    assert "wp-block" not in page
    assert 'From <a href="https://kettle.example/2026/11/twice/"' in page
    assert "Only a description." in second.body
    assert Feed.objects.get().title == "The Kettle’s Blog"
    dates = set(FeedEntry.objects.values_list("dated", flat=True))
    assert dates == {
        datetime(2026, 11, 3, 8, 14, 21, tzinfo=UTC),
        datetime(2026, 10, 1, 8, 0, tzinfo=UTC),
    }


def test_atom_from_github(load):
    assert load(feeds.GITHUB)["new"] == 2
    first, second = Post.objects.order_by("pk")
    assert first.title == "v2.0: hot & fast"
    assert "<h2>What's new</h2>" in to_html(first.body)
    assert "<p>Plain: 1 &lt; 2</p>" in second.body
    assert "<p>Next paragraph.</p>" in second.body
    assert FeedEntry.objects.get(post=first).dated == datetime(2026, 10, 30, 12, 10, 11, tzinfo=UTC)


@pytest.mark.parametrize("content_type", ["application/xml", "text/xml; charset=iso-8859-1"])
def test_rss_1_in_latin_1(load, content_type):
    load((200, {"Content-Type": content_type}, feeds.RDF.encode("latin-1")))
    post = Post.objects.get()
    assert (post.title, post.slug) == ("Äpfel", "apfel")
    assert "Süß und grün." in post.body
    assert FeedEntry.objects.get().dated == datetime(2003, 1, 2, 2, 4, 5, tzinfo=UTC)


def test_a_wrong_encoding_is_read_all_the_same(load):
    """The declaration says UTF-8, the bytes are Latin-1."""
    body = feeds.RDF.replace("ISO-8859-1", "UTF-8").encode("latin-1")
    assert load(body)["new"] == 1
    assert Post.objects.get().title == "Äpfel"


def test_a_podcast(load):
    load(feeds.PODCAST)
    post = Post.objects.get()
    assert "We talk." in post.body
    assert 'href="https://cdn.example/ep1.mp3?a=1&amp;b=2"' in to_html(post.body)
    assert FeedEntry.objects.get().dated is None


def test_an_enclosure_without_an_address(load):
    assert load(rss(['<guid>1</guid><enclosure type="audio/mpeg"/>']))["new"] == 1
    assert Post.objects.get().body.count("<a ") <= 1


def test_a_compressed_feed(load):
    assert load(zipped(feeds.WORDPRESS))["new"] == 2


@pytest.mark.parametrize(
    ("item", "title"),
    [
        ("<guid>1</guid>", "Untitled"),
        ("<guid>1</guid><description>One two three four five six seven eight nine</description>",
         "One two three four five six seven eight…"),
        ("<link>https://x.example/</link><title>  Two\n lines </title>", "Two lines"),
        (f"<title>{'long ' * 100}</title>", ("long " * 40)[:199] + "…"),
        ("<title>Tom &amp;amp; &amp;lt;b&amp;gt; Jerry</title>", "Tom & <b> Jerry"),
        ("", "Untitled"),
    ],
)  # fmt: skip
def test_entries_that_lack_something(load, item, title):
    assert load(rss([item]))["new"] == 1
    assert " ".join(Post.objects.get().title.split()) == " ".join(title.split())


@pytest.mark.parametrize(
    "date",
    ["", "yesterday", "Tue, 99 Nov 2026 08:14:21 +0000", "0000-00-00T00:00:00Z",
     "Tue, 03 Nov 99999 08:14:21 +0000", "0001-01-01T00:00:00+23:00"],
)  # fmt: skip
def test_dates_that_are_none(load, date):
    assert load(rss([f"<guid>1</guid><pubDate>{date}</pubDate>"]))["new"] == 1
    assert Post.objects.get().published_at is None


def test_control_characters_are_dropped(load):
    load(rss(["<guid>1</guid><title>a&#1;b</title><description>c&#0;d</description>"]))
    post = Post.objects.get()
    assert "\x01" not in post.title
    assert "\x00" not in post.body


def test_broken_xml_is_read_as_far_as_it_goes(load):
    assert load(feeds.WORDPRESS.replace("</title>", "</titel>", 1)[:-300])["new"] >= 1


@pytest.mark.parametrize("body", [b"", b"hello", b"<html><title>x</title></html>", b"\x00" * 99])
def test_what_is_no_feed_is_refused(load, body):
    with pytest.raises(NotAFeed, match="is not an RSS or Atom feed"):
        load(body)
    assert not Feed.objects.exists()


def test_what_feedparser_stumbles_over_is_named(load):
    with pytest.raises(NotAFeed, match=r"cannot be read: .*surrogates not allowed"):
        load(rss(["<title>half &#xD83D; a pair</title>"]))


@pytest.mark.parametrize("port", [0, 65536])
def test_a_port_that_does_not_exist(server, author, port):
    with pytest.raises(FetchError, match=f"Port {port} is not allowed"):
        import_entries(f"http://127.0.0.1:{port}/", author.pk)


def test_an_answer_is_never_taken_for_the_name_of_a_file(load):
    """feedparser opens what looks like a path."""
    with pytest.raises(NotAFeed):
        load(b"/etc/passwd")


def test_an_empty_feed_is_a_feed(load):
    assert load(rss([])) == {"new": 0, "known": 0}


def test_hostile_entries_are_harmless(load):
    assert load(feeds.HOSTILE)["new"] == 1
    post = Post.objects.get()
    assert post.title == "Free tea"
    page = shown()
    for part in ("<script", "onclick", "onerror", "iframe", "<style", "<form", "<input", "data:"):
        assert part not in page
        assert part not in post.body
    assert not re.search(r'(href|src)="?\s*javascript', page)
    assert not re.search(r'(href|src)="?\s*javascript', post.body)
    assert 'id="' not in page
    assert "button" not in page
    assert "Hello" in page


def test_a_laughing_billion_is_refused(load):
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)
    )
    body = f"<!DOCTYPE rss [{entities}]>{rss(['<guid>1</guid><title>&a11;</title>'])}"
    before = time.process_time()
    load(f'<?xml version="1.0"?>{body}')
    assert time.process_time() - before < 20
    assert len(Post.objects.get().title) <= 200


def test_an_external_entity_is_not_read(load):
    body = '<!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    load(f'<?xml version="1.0"?>{body}{rss(["<guid>1</guid><title>a &x; b</title>"])}')
    assert "root:" not in Post.objects.get().title


# --- Once and only once ---------------------------------------------------------------------------


def test_a_second_import_finds_nothing_new(load):
    assert load(feeds.WORDPRESS)["new"] == 2
    assert load(feeds.WORDPRESS) == {"new": 0, "known": 2}
    assert Post.objects.count() == 2


def test_one_id_twice_in_a_feed_is_one_post(load):
    assert load(rss(["<guid>1</guid><title>a</title>"] * 2)) == {"new": 1, "known": 1}


def test_the_same_id_in_another_feed_is_another_post(load):
    assert load(rss(["<guid>1</guid>"]), "/a")["new"] == 1
    assert load(rss(["<guid>1</guid>"]), "/b")["new"] == 1


def test_a_deleted_draft_stays_deleted(load):
    load(feeds.PODCAST)
    Post.objects.all().delete()
    assert load(feeds.PODCAST) == {"new": 0, "known": 1}
    assert not Post.objects.exists()


def test_an_edited_draft_is_not_overwritten(load):
    load(feeds.PODCAST)
    Post.objects.update(title="Mine")
    load(feeds.PODCAST.replace("Episode 1", "Renamed"))
    assert Post.objects.get().title == "Mine"


def test_two_imports_at_the_same_time_make_one_post(load, monkeypatch):
    """After the first has read which entries are known, the second runs from start to end."""
    plain, others = feed_import.import_entry, []

    def import_while_another_runs(*args):
        if not others:
            others.append(None)
            others[0] = load()
        return plain(*args)

    monkeypatch.setattr(feed_import, "import_entry", import_while_another_runs)
    assert load(feeds.WORDPRESS) == {"new": 0, "known": 2}
    assert others == [{"new": 2, "known": 0}]
    assert Post.objects.count() == 2


def test_two_feeds_may_want_one_address_at_the_same_time(load, make_post, monkeypatch):
    """The other import commits between the look and the insert."""
    make_post("Episode 1")
    looks = ["episode-1", "episode-1-abc"]
    monkeypatch.setattr(feed_import, "slug_of", lambda *args: looks.pop(0))
    assert load(feeds.PODCAST)["new"] == 1
    assert FeedEntry.objects.get().post.slug == "episode-1-abc"


def test_a_thousand_entries_of_one_title(load):
    assert load(many(1001)) == {"new": 1000, "known": 0}
    assert Post.objects.values("slug").distinct().count() == 1000
    assert load(many(1001)) == {"new": 0, "known": 1000}


def test_nobody_to_become_the_author(server, db):
    with pytest.raises(ValueError, match="no user 7 to become the author"):
        import_entries(server.url(), 7)
    assert not server.requests


# --- HTTP -----------------------------------------------------------------------------------------


def test_an_unchanged_feed_is_not_sent_again(load, server):
    headers = {"ETag": 'W/"7"', "Last-Modified": "Tue, 03 Nov 2026 08:15:00 GMT"}
    server.pages["/feed"] = [(200, headers, feeds.WORDPRESS), (304, {}, "")]
    load()
    assert load() == {"new": 0, "known": 0}
    asked = server.requests[1][1]
    assert asked["If-None-Match"] == 'W/"7"'
    assert asked["If-Modified-Since"] == "Tue, 03 Nov 2026 08:15:00 GMT"


def test_an_import_that_stopped_in_the_middle_fetches_the_feed_again(load, server, monkeypatch):
    server.pages["/feed"] = (200, {"ETag": '"7"'}, feeds.WORDPRESS)

    def stop(*args):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(feed_import, "slug_of", stop)
        with pytest.raises(SystemExit):
            load()
    assert load()["new"] == 2
    assert "If-None-Match" not in server.requests[1][1]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(load, server, status):
    server.pages["/feed"] = (status, {"Location": "/new/place"}, "")
    server.pages["/new/place"] = feeds.PODCAST
    assert load()["new"] == 1
    assert Feed.objects.get().url == server.url()


def test_redirects_come_to_an_end(load, server):
    with pytest.raises(FetchError, match="More than 5 redirects"):
        load((302, {"Location": "/feed"}, ""))
    assert len(server.requests) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_4xx_is_final(load, status):
    with pytest.raises(FetchError, match=f"answers {status}") as caught:
        load((status, {}, "no"))
    assert not isinstance(caught.value, TryLater)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_429_and_5xx_are_not(load, status):
    with pytest.raises(TryLater, match=f"answers {status}"):
        load((status, {}, "later"))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120), (" 7 ", 7), ("", None), ("soon", None), ("-1", None), ("²", None),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)  # fmt: skip
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert fetching.seconds_of(header) == seconds


def test_retry_after_in_the_future():
    assert fetching.seconds_of("Fri, 01 Jan 2100 00:00:00 GMT") > 3600


@pytest.mark.parametrize("unpacked", [True, False])
def test_a_feed_that_is_too_long_is_given_up(load, unpacked, monkeypatch):
    monkeypatch.setattr(fetching, "MAX_BYTES", 100_000)
    body = rss([f"<title>{'x' * 200_000}</title>"])
    with pytest.raises(FetchError, match="is longer than"):
        load(zipped(body) if unpacked else body)


def test_a_bomb_is_not_unpacked(load):
    """Of the 100 MB in it, 5 MB and one byte are unpacked."""
    bomb = gzip.compress(b"\0" * 100 * 1024**2)
    tracemalloc.start()
    try:
        with pytest.raises(FetchError, match="longer than 5 MB"):
            load((200, {"Content-Encoding": "gzip"}, bomb))
        assert tracemalloc.get_traced_memory()[1] < 20 * 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "deflate"])
def test_an_encoding_that_nobody_asked_for(load, encoding):
    with pytest.raises(FetchError, match="gzip alone was asked for"):
        load((200, {"Content-Encoding": encoding}, "x"))


def test_gzip_that_is_none(load):
    with pytest.raises(FetchError, match="no valid gzip"):
        load((200, {"Content-Encoding": "gzip"}, "x" * 100))


def test_a_server_that_stays_silent(load, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT", httpx.Timeout(0.3))
    with pytest.raises(TryLater, match="ReadTimeout"):
        load(lambda handler: time.sleep(1))


def test_a_server_that_drips(load, monkeypatch):
    """Each part comes in time, the whole never."""

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"<rss>")
            handler.wfile.flush()
            time.sleep(0.02)

    monkeypatch.setattr(fetching, "SECONDS", 0.2)
    with pytest.raises(TryLater, match="was not there within"):
        load(drip)


def test_a_server_that_is_away(server, author):
    server.stop()
    with pytest.raises(TryLater, match="ConnectError"):
        import_entries(server.url(), author.pk)
    server.__init__()
    server.start()


# --- Where it may go ------------------------------------------------------------------------------

PRIVATE = [
    "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "0.0.0.0", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1",
    "fec0::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:a9fe:a9fe", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2001:0:a00:1::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_for_everybody(address):
    assert not fetching.is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_addresses_that_are(address):
    assert fetching.is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "0", "[::]",
             "[::ffff:127.0.0.1]"]
)  # fmt: skip
def test_the_servers_own_network_is_refused(author, host):
    """However the address is written: it is judged when it has been looked up."""
    with pytest.raises(FetchError, match="is not a public address") as caught:
        import_entries(f"http://{host}/feed", author.pk)
    assert not isinstance(caught.value, TryLater)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://x.example/feed", "does not start with http:// or https://"),
        ("file:///etc/passwd", "does not start with http:// or https://"),
        ("feed", "does not start with http:// or https://"),
        ("http://", "does not start with http:// or https://"),
        ("http://x.example:6379/", "Port 6379 is not allowed"),
        ("https://x.example:80/", "Port 80 is not allowed"),
        ("http://user:secret@x.example/", "contains a user name or a password"),
        ("http://x.example:99999/", "Port 99999 is not allowed"),
        ("http://[::1/", "valid address"),
        ("http://x\ny.example/", "valid address"),
    ],
)
def test_addresses_that_are_wrong(author, url, reason):
    with pytest.raises(FetchError, match=reason) as caught:
        import_entries(url, author.pk)
    assert not isinstance(caught.value, TryLater)
    assert "secret" not in str(caught.value)


def test_an_address_that_is_too_long(author):
    with pytest.raises(ValueError, match="has 520 characters"):
        import_entries("http://x.example/".ljust(520, "x"), author.pk)


def test_a_name_with_one_private_address_is_refused(author, monkeypatch):
    found = [(socket.AF_INET, 1, 6, "", (ip, 80)) for ip in ("1.1.1.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    with pytest.raises(FetchError, match=r"'x.example' is 10\.0\.0\.1, which is not"):
        import_entries("http://x.example/", author.pk)


def test_a_name_that_nobody_knows_may_be_known_later(author, monkeypatch):
    def fail(*args, **options):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(TryLater, match=r"The host 'x\.example' was not found"):
        import_entries("http://x.example/", author.pk)


@pytest.fixture
def world(server, settings, monkeypatch):
    """A name server: ``world["x.example"] = ["1.1.1.1", …]``, one answer each time it is asked.

    Connections to 1.1.1.1 end at the local server, the others nowhere. Returns the connections in
    ``world.connected``.
    """
    settings.FEED_ALLOW_PRIVATE = False

    class World(dict):
        connected = []

    world, connect = World(), socket.create_connection
    world.connected = []

    def look_up(host, port, *args, **options):
        answers = world[host]
        ip = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))]

    def connect_here(address, *args, **options):
        world.connected.append(address)
        assert address[0] == "1.1.1.1", f"connected to {address}"
        with monkeypatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", real_look_up)
            return connect(("127.0.0.1", server.port), *args, **options)

    real_look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect_here)
    return world


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(world, server, author):
    """DNS rebinding: asked a second time, the name server would answer 127.0.0.1."""
    world["x.example"] = ["1.1.1.1", "127.0.0.1"]
    server.pages["/feed"] = feeds.PODCAST
    assert import_entries("http://x.example/feed", author.pk)["new"] == 1
    assert world.connected == [("1.1.1.1", 80)]
    assert server.requests[0][1]["Host"] == "x.example"


def test_each_redirect_is_checked(world, server, author):
    world.update({"x.example": ["1.1.1.1"], "inside.example": ["10.0.0.1"]})
    server.pages["/feed"] = (302, {"Location": "http://inside.example/admin"}, "")
    with pytest.raises(FetchError, match=r"'inside\.example' is 10\.0\.0\.1"):
        import_entries("http://x.example/feed", author.pk)
    assert len(server.requests) == 1


@pytest.mark.parametrize("target", ["http://x.example:22/", "file:///etc/passwd", "gopher://x/"])
def test_a_redirect_cannot_leave_the_web(world, server, author, target):
    world["x.example"] = ["1.1.1.1"]
    server.pages["/feed"] = (302, {"Location": target}, "")
    with pytest.raises(FetchError, match=r"not allowed|does not start"):
        import_entries("http://x.example/feed", author.pk)


def test_proxies_of_the_environment_are_not_asked(world, server, author, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    world["x.example"] = ["1.1.1.1"]
    server.pages["/feed"] = feeds.PODCAST
    assert import_entries("http://x.example/feed", author.pk)["new"] == 1


def test_the_certificate_is_that_of_the_name_and_not_of_the_address(world, monkeypatch, author):
    names = []

    def wrap(self, sock, *args, server_hostname=None, **options):
        names.append(server_hostname)
        raise ssl.SSLError("far enough")

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wrap)
    world["bücher.example"] = world["xn--bcher-kva.example"] = ["1.1.1.1"]
    with pytest.raises(TryLater, match="far enough"):
        import_entries("https://bücher.example/feed", author.pk)
    assert names == ["xn--bcher-kva.example"]
    assert world.connected == [("1.1.1.1", 443)]


# --- The task -------------------------------------------------------------------------------------


def pause_of(error, monkeypatch):
    """For how long the task waits after an error."""

    def fail(*args):
        raise error

    pauses = []

    def retry(exc=None, countdown=None, **options):
        pauses.append(countdown)
        return Retry(exc=exc)

    monkeypatch.setattr(tasks, "import_entries", fail)
    monkeypatch.setattr(tasks.import_feed, "retry", retry)
    with pytest.raises((Retry, FetchError)):
        tasks.import_feed(url="x", author_id=1)
    return pauses


@pytest.mark.parametrize(("after", "pause"), [(7, 7), (0, 0), (99999, tasks.LONGEST_WAIT)])
def test_it_waits_as_long_as_the_server_asks_for_within_limits(after, pause, monkeypatch):
    error = TryLater("busy")
    error.after = after
    assert pause_of(error, monkeypatch) == [pause]
    timeout = current_app.conf.broker_transport_options["visibility_timeout"]
    assert pause < timeout


def test_otherwise_it_waits_a_few_seconds_at_random(monkeypatch):
    (pause,) = pause_of(TryLater("away"), monkeypatch)
    assert 0 <= pause <= 5


def test_what_is_wrong_is_not_tried_again(monkeypatch):
    assert pause_of(FetchError("404"), monkeypatch) == []


def test_feedparser_is_given_a_file_object(monkeypatch):
    given = []
    parse = feedparser.parse
    monkeypatch.setattr(
        feedparser, "parse", lambda source, **options: given.append(source) or parse(source)
    )
    with pytest.raises(NotAFeed):
        feed_import.parse(Document("http://x.example/", b"http://x.example/feed"))
    assert hasattr(given[0], "read")
