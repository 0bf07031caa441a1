"""Imports of feeds reach the world and nothing else. More in tests/posts/test_feed_import.py.

No test here connects to anything but a server of its own: a connection elsewhere is a failure.
"""

import socket

import pytest

from posts.feed_import import import_entries
from posts.fetching import FetchError, TryLater
from posts.models import Feed, Post
from tests.feeds import PODCAST, FeedServer

PUBLIC = "1.1.1.1"
LOOPBACK = [
    # The ways to write 127.0.0.1 that resolvers and browsers understand.
    "017700000001", "0177.0.0.1", "0x7f000001", "0x7f.0x0.0x0.0x1", "0X7F.0.1", "127.0.1",
    "127.000.000.001", "2130706433", "00000000177.1", "127.0.0.1.", "①②⑦.⓪.⓪.①", "127。0。0。1",
    "LOCALHOST", "[::ffff:7f00:1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[::ffff:0:127.0.0.1]",
    "[0:0:0:0:0:0:0:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "%31%32%37.0.0.1",
]  # fmt: skip
INSIDE = [
    # What clouds tell their machines, keys included.
    "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "[::ffff:168.63.129.16]", "[64:ff9b::a83f:8110]",
    # Neighbours, everybody at once, nobody.
    "10.1.2.3", "012.1.2.3", "172.31.255.255", "192.168.0.1", "3232235521", "[fe80::1]",
    "[fec0::1]", "[fc00::1]", "[ff02::1]", "0", "0.0.0.0", "[::]", "255.255.255.255", "224.0.0.1",
]  # fmt: skip


@pytest.fixture
def server():
    server = FeedServer().start()
    yield server
    server.stop()


@pytest.fixture
def connected(monkeypatch, server):
    """The addresses that were connected to. Only PUBLIC leads somewhere: to the local server."""
    addresses, connect = [], socket.create_connection

    def connect_here(address, *args, **options):
        addresses.append(address[0])
        assert address[0] == PUBLIC, f"connected to {address}"
        return connect(("127.0.0.1", server.port), *args, **options)

    monkeypatch.setattr(socket, "create_connection", connect_here)
    return addresses


@pytest.fixture
def names(monkeypatch):
    """A name server for some names: ``names["x.example"] = ["1.1.1.1"]``."""
    known, look_up = {"x.example": [PUBLIC]}, socket.getaddrinfo

    def answer(host, port, *args, **options):
        if host not in known:
            # Addresses are looked up as they are; names of the world are never asked for here.
            options = {**options, "flags": socket.AI_NUMERICHOST}
            return look_up("127.0.0.1" if host.lower() == "localhost" else host, port, **options)
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in ip], socket.SOCK_STREAM, 6, "", (ip, port)) for ip in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return known


@pytest.fixture
def refused(names, connected, people):
    """Import an address and make sure that it is refused: ``refused(url)`` is the reason."""

    def refused(url, later=None):
        with pytest.raises(FetchError) as caught:
            import_entries(url, people["staff"].pk)
        assert not Post.objects.exists()
        assert not Feed.objects.exists()
        assert later is None or isinstance(caught.value, TryLater) == later
        return str(caught.value)

    return refused


@pytest.mark.parametrize("host", [*LOOPBACK, *INSIDE])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_however_an_address_is_written(refused, connected, host, scheme):
    refused(f"{scheme}://{host}/feed")
    assert connected == []


@pytest.mark.parametrize("host", [*LOOPBACK[:8], *INSIDE])
def test_an_address_is_refused_for_what_it_is_and_for_good(refused, host):
    """It is no address that might be reached later: the task does not try again."""
    reason = refused(f"http://{host}/feed", later=False)
    assert "is not a public address" in reason or "is no valid address" in reason


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], ["::1"], ["169.254.169.254"], ["fe80::1%lo"], ["::ffff:10.0.0.1"],
     [PUBLIC, "127.0.0.1"], ["2606:4700::1111", "::1"], ["168.63.129.16"]],
    ids=str,
)  # fmt: skip
def test_names_that_lead_inside(refused, names, connected, found):
    names["inside.example"] = found
    assert "is not a public address" in refused("http://inside.example/feed")
    assert connected == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1/", "//127.0.0.1/", "http://2130706433/", "http://[::1]/", "http://localhost/",
     "http://[::ffff:169.254.169.254]/latest/", "http://168.63.129.16/", "http://inside.example/",
     "http://x.example:6379/", "https://x.example:80/", "http://user:pw@x.example/",
     "\\\\127.0.0.1\\", "http:127.0.0.1", "ftp://x.example/", "data:application/xml,<rss/>",
     "http://x.example\\@127.0.0.1/", "http://127.0.0.1#@x.example/"],
)  # fmt: skip
def test_redirects_that_lead_inside(refused, names, connected, server, target, status):
    """Each hop is looked at like the first one. The second one is never asked."""
    names["inside.example"] = ["10.0.0.1"]
    server.pages["/feed"] = (status, {"Location": target}, PODCAST)
    refused("http://x.example/feed")
    assert set(connected) == {PUBLIC}
    # What is no address at all is a path on the same server, where there is nothing.
    paths = {path for path, _ in server.requests} - {"/feed"}
    assert {path.strip("/\\").replace("%5C", "") for path in paths} <= {"127.0.0.1"}


def test_a_chain_of_redirects_that_ends_inside(refused, connected, server):
    for number in range(3):
        server.pages[f"/{number}"] = (302, {"Location": f"http://x.example/{number + 1}"}, "")
    server.pages["/3"] = (302, {"Location": "http://169.254.169.254/latest/"}, "")
    assert "is not a public address" in refused("http://x.example/0")
    assert connected == [PUBLIC] * 4


@pytest.mark.parametrize("port", [1, 22, 25, 81, 443, 5432, 6379, 8000, 8080, 11211, 65535])
def test_ports_of_other_services(refused, connected, port):
    assert f"Port {port} is not allowed" in refused(f"http://x.example:{port}/")
    assert connected == []


def test_nothing_of_a_users_session_or_of_the_site_is_sent_along(
    names, connected, server, people, settings
):
    """A strange server learns what the site is called, and nothing else."""
    settings.SECRET_KEY, settings.METRICS_TOKEN = "secret-one", "secret-two"
    server.pages["/feed"] = (302, {"Location": "http://y.example/feed", "Set-Cookie": "a=b"}, "")
    names["y.example"] = [PUBLIC]
    with pytest.raises(FetchError, match="More than 5 redirects"):
        import_entries("http://x.example/feed", people["staff"].pk)
    headers = [{name.lower() for name in found} for _, found in server.requests]
    assert set.union(*headers) == {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert "secret" not in str(server.requests)


def test_an_answer_from_inside_would_not_be_shown(people, settings, server):
    """Even where private addresses are allowed, an error tells the status and not the page."""
    settings.FEED_ALLOW_PRIVATE = True
    for status in (200, 403, 500):
        server.pages["/feed"] = (status, {}, "the keys of the house")
        with pytest.raises(FetchError) as caught:
            import_entries(server.url(), people["staff"].pk)
        assert "the keys" not in str(caught.value)


def test_private_addresses_are_refused_unless_somebody_asks_for_them(settings):
    assert settings.FEED_ALLOW_PRIVATE is False
