"""Fetches a document from an address that somebody typed, without becoming their tool.

Such a request is made from inside the network, so it could reach what is not meant for the world:
https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import ipaddress
import socket
import time
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

import httpx
from django.conf import settings

MAX_BYTES = 5 * 1024 * 1024  # of the document, unpacked
MAX_REDIRECTS = 5
SECONDS = 30  # for the whole document
TIMEOUT = httpx.Timeout(10, connect=5)  # for each part of it, in seconds
PORTS = {"http": 80, "https": 443}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What Python calls global, and clouds use for what machines may ask about themselves: Oracle's
# 192.0.0.192 (Python 3.12.4 knows) and Azure's 168.63.129.16.
INSIDE_CLOUDS = [ipaddress.ip_network(net) for net in ("192.0.0.0/24", "168.63.129.16/32")]


class FetchError(Exception):
    """The document cannot be had: the address is wrong, or its server says no. Do not try again."""


class TryLater(FetchError):
    """The document cannot be had now. ``after``: how many seconds the server asks for, or None."""

    after = None


@dataclass
class Document:
    """What a server answered. ``content`` is None where it has not changed since the last time."""

    url: str
    content: bytes | None
    content_type: str = ""
    etag: str = ""
    last_modified: str = ""


def fetch(url, etag="", last_modified=""):
    """Fetch a document by HTTP or HTTPS.

    Only from addresses that everybody can reach (see `public_address`), on ports 80 and 443,
    unless FEED_ALLOW_PRIVATE is set. Redirects are followed, each checked like the first address.

    Args:
        url (str): where it is.
        etag (str): what `Document.etag` was the last time.
        last_modified (str): likewise.

    Returns:
        Document: at most MAX_BYTES long.

    Raises:
        FetchError: the address is not allowed, the server answers 4xx, or it is too long.
        TryLater: no connection, no answer in time, 429 or 5xx.
    """
    deadline = time.monotonic() + SECONDS
    headers = {
        "User-Agent": f"Later (+{settings.SITE_URL})",
        "Accept": "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.1",
        "Accept-Encoding": "gzip",
    }
    if etag:
        headers["If-None-Match"] = etag
    if last_modified:
        headers["If-Modified-Since"] = last_modified
    for _ in range(MAX_REDIRECTS + 1):
        checked(url)
        # A client for each hop: a connection that was opened for one host serves no other, even
        # where two hosts have one address. With a transport given, httpx asks none of the proxies
        # in the environment, which would look the name up again.
        client = httpx.Client(transport=PinnedTransport(), timeout=TIMEOUT)
        try:
            with client, client.stream("GET", url, headers=headers) as response:
                if response.has_redirect_location:
                    url = urljoin(url, response.headers["Location"])
                    continue
                return read(url, response, deadline)
        except httpx.HTTPError as error:  # Among them what `read` meets.
            raise TryLater(f"{url}: {type(error).__name__} {error}".rstrip()) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise FetchError(f"{url} is no valid address: {error}") from error
    raise FetchError(f"More than {MAX_REDIRECTS} redirects, the last to {url}.")


def read(url, response, deadline):
    """Make a Document of an answer, or say what is wrong with it. See `fetch`."""
    status = response.status_code
    if status == 304:
        return Document(url, None)
    if status == 429 or status >= 500:
        error = TryLater(f"{url} answers {status} {response.reason_phrase}".rstrip() + ".")
        error.after = seconds_of(response.headers.get("Retry-After", ""))
        raise error
    if status != 200:
        raise FetchError(f"{url} answers {status} {response.reason_phrase}".rstrip() + ".")
    return Document(
        url,
        body_of(url, response, deadline),
        response.headers.get("Content-Type", ""),
        response.headers.get("ETag", ""),
        response.headers.get("Last-Modified", ""),
    )


def body_of(url, response, deadline):
    """Read an answer's body up to the limit, and not one byte of a compressed bomb beyond it."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("gzip", "x-gzip", "identity", ""):
        raise FetchError(f"{url} is compressed as {encoding!r}, and gzip alone was asked for.")
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if "gzip" in encoding else None
    body = bytearray()
    try:
        for chunk in response.iter_raw():
            body += unpack.decompress(chunk, MAX_BYTES + 1 - len(body)) if unpack else chunk
            if len(body) > MAX_BYTES:
                raise FetchError(f"{url} is longer than {MAX_BYTES // 1024**2} MB.")
            if time.monotonic() > deadline:
                raise TryLater(f"{url} was not there within {SECONDS} s.")
    except zlib.error as error:
        raise FetchError(f"{url} is no valid gzip: {error}") from error
    return bytes(body)


def seconds_of(retry_after):
    """Read a Retry-After header: a number of seconds, or a date.

    Returns:
        float | None: seconds from now on, not negative. None where there is nothing to read.
    """
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def checked(url):
    """Refuse what is wrong with an address itself.

    Raises:
        FetchError: it says what.
    """
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise FetchError(f"{url!r} is no valid address: {error}") from error
    if parts.scheme not in PORTS or not parts.host:
        raise FetchError(f"{url!r} does not start with http:// or https:// and a host.")
    if parts.userinfo:
        raise FetchError("The address contains a user name or a password. Leave it out.")
    allowed = range(1, 65536) if settings.FEED_ALLOW_PRIVATE else [PORTS[parts.scheme]]
    if parts.port is not None and parts.port not in allowed:
        raise FetchError(f"Port {parts.port} is not allowed: only {PORTS[parts.scheme]} is.")


def public_address(host, port):
    """Look a host name up, once, and return an address that is safe to connect to.

    A name all of whose addresses are public: one private address among them is reason enough to
    refuse it.

    Args:
        host (str): a name, or an address.
        port (int): the port to connect to.

    Returns:
        str: an IPv4 or IPv6 address.

    Raises:
        FetchError: it is private, loopback, link-local, multicast or reserved.
        httpx.ConnectError: the name is unknown, or no name server answers.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"The host {host!r} was not found: {error}") from error
    addresses = [entry[4][0] for entry in found]
    if not settings.FEED_ALLOW_PRIVATE:
        for address in addresses:
            if not is_public(address):
                raise FetchError(f"{host!r} is {address}, which is not a public address.")
    return addresses[0]


def is_public(address):
    """Whether an address can be reached by everybody, so that a request to it reveals nothing.

    Args:
        address (str): IPv4 or IPv6. An IPv6 address that stands for an IPv4 address is judged by
            that one, and the old tunnels (6to4, Teredo) are refused.
    """
    ip = ipaddress.ip_address(address)
    if ip.version == 6:
        if ip.scope_id or ip.is_site_local or ip.sixtofour or ip.teredo:
            return False
        if ip in NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = getattr(ip, "ipv4_mapped", None) or ip
    if any(ip in network for network in INSIDE_CLOUDS):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class PinnedTransport(httpx.HTTPTransport):
    """Connects to the address that was checked, whatever the name means a moment later.

    Looked up once for the check and once for the connection, a name server could answer first with
    a public and then with a private address (DNS rebinding). The Host header, which httpx has set
    by now, and the name in the certificate stay those of the URL:
    https://www.python-httpx.org/advanced/extensions/#sni_hostname
    """

    def handle_request(self, request):
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or PORTS[request.url.scheme]
        request.url = request.url.copy_with(host=public_address(host, port))
        request.extensions = {**request.extensions, "sni_hostname": host}
        return super().handle_request(request)
