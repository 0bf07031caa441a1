"""Makes drafts of the entries of an RSS or Atom feed. Knows nothing of Celery."""

import calendar
import hashlib
import html
import io
import logging
from datetime import UTC, datetime
from urllib.parse import urlsplit

import feedparser
import nh3
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.html import format_html, linebreaks
from django.utils.text import Truncator, slugify

from .fetching import FetchError, fetch
from .markup import clean, without_control_characters
from .models import Feed, FeedEntry, Post

logger = logging.getLogger(__name__)

MAX_ENTRIES = 1000
# What feedparser raises when something is wrong beyond what it expects, such as half a surrogate
# pair. Not Exception: Celery's soft time limit is one.
BROKEN = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
          ValueError)  # fmt: skip
LONGEST_TITLE = Post._meta.get_field("title").max_length


class NotAFeed(FetchError):
    """What the address answers is no RSS or Atom feed."""


def import_entries(url, author_id):
    """Make a draft of each entry of a feed that has not been imported before.

    Args:
        url (str): the feed's address, at most 500 characters.
        author_id (int): primary key of the user who becomes the author.

    Returns:
        dict: ``{"new": drafts made, "known": entries imported before}``, of the feed's first 1,000
        entries; both are 0 when the server says that nothing has changed.

    Raises:
        ValueError: there is no such user, or the address is too long.
        FetchError: the address is not allowed or does not exist, or is no feed.
        TryLater: the server is away or busy.
    """
    url = url.strip()
    if len(url) > Feed._meta.get_field("url").max_length:
        raise ValueError(f"The address has {len(url)} characters, and 500 are allowed.")
    author = get_user_model().objects.filter(pk=author_id).first()
    if author is None:
        raise ValueError(f"There is no user {author_id!r} to become the author.")
    feed = Feed.objects.filter(url=url).first() or Feed(url=url)
    document = fetch(url, feed.etag, feed.last_modified)
    if document.content is None:
        return {"new": 0, "known": 0}
    parsed = parse(document)
    feed, _ = Feed.objects.get_or_create(url=url)  # Only now: it has answered with a feed.
    seen = set(feed.entries.values_list("key", flat=True))
    new = 0
    entries = parsed.entries[:MAX_ENTRIES]
    for entry in entries:
        key = key_of(entry)
        if key in seen:
            continue
        seen.add(key)
        try:
            import_entry(feed, key, entry, author)
        except IntegrityError:  # Another run was faster: with the entry, or with the address alone.
            if feed.entries.filter(key=key).exists():
                continue
            import_entry(feed, key, entry, author)
        new += 1
    # At the end: a run that was killed in the middle fetches the feed again.
    feed.title = plain(parsed.feed.get("title", ""))[: Feed._meta.get_field("title").max_length]
    feed.etag = header(feed, "etag", document.etag)
    feed.last_modified = header(feed, "last_modified", document.last_modified)
    feed.imported_at = timezone.now()
    feed.save()
    return {"new": new, "known": len(entries) - new}


def parse(document):
    """Read a feed, as far as it can be read: many in the world are not quite valid.

    Args:
        document (Document): what was fetched.

    Returns:
        feedparser.FeedParserDict: with «feed» and «entries», addresses made absolute.

    Raises:
        NotAFeed: there is neither a feed's root element nor an entry in it, or it is broken.
    """
    headers = {"content-type": document.content_type, "content-location": document.url}
    try:
        # A file object: given bytes, feedparser would take them for the name of a local file first.
        parsed = feedparser.parse(io.BytesIO(document.content), response_headers=headers)
    except BROKEN as error:
        raise NotAFeed(f"{document.url} cannot be read: {error}") from error
    if not parsed.get("version") and not parsed.entries:
        raise NotAFeed(
            f"{document.url} is not an RSS or Atom feed. Look for its feed's address in the page."
        )
    if parsed.bozo:
        logger.info("%s is not quite valid: %s", document.url, parsed.bozo_exception)
    return parsed


@transaction.atomic
def import_entry(feed, key, entry, author):
    """Make a draft of one entry, and the row that keeps it from being made again.

    Raises:
        IntegrityError: another run has made that row, or a post with the same address. Nothing was
            made then.
    """
    text = text_of(entry)
    title = title_of(entry, text)
    post = Post.objects.create(
        title=title, slug=slug_of(title, key), body=body_of(entry, text), author=author
    )
    FeedEntry.objects.create(feed=feed, key=key, post=post, dated=date_of(entry))


def key_of(entry):
    """Return what tells an entry from others: the digest of its id, else of its link, else of all.

    A digest, because ids are as long as somebody likes.
    """
    parts = entry.get("id") or entry.get("link") or [entry.get("title"), entry.get("summary")]
    return hashlib.sha256(str(parts).encode("utf-8", "replace")).hexdigest()


def text_of(entry):
    """Return an entry's text as HTML, the longest version that it has. Untrusted."""
    contents = entry.get("content") or [entry.get("summary_detail") or {}]
    content = next((part for part in contents if "html" in part.get("type", "")), contents[0])
    text = content.get("value") or ""
    return text if "html" in content.get("type", "html") else linebreaks(text, autoescape=True)


def body_of(entry, text):
    """Return a post's body: sanitised HTML in a block, which Markdown leaves as it is.

    With what a reader of the draft needs: the sound file of a podcast, and where it came from.
    """
    parts = [text]
    for enclosure in entry.get("enclosures", []):
        if is_web(enclosure.get("href")):
            name = urlsplit(enclosure["href"]).path.rpartition("/")[2] or enclosure["href"]
            parts.append(format_html('<p><a href="{}">{}</a></p>', enclosure["href"], name))
    if is_web(entry.get("link")):
        link = entry["link"]
        parts.append(format_html('<p>From <a href="{}">{}</a></p>', link, urlsplit(link).hostname))
    # Sanitised when it is shown too; here so that the editor does not start with a script in it.
    inner = clean(storable("\n".join(parts)))
    return f"<div>\n{inner.strip()}\n</div>\n"


def title_of(entry, text):
    """Return an entry's title as plain text, or else the first words of its text."""
    title = plain(entry.get("title", "")) or Truncator(plain(text)).words(8)
    return Truncator(title).chars(LONGEST_TITLE) or "Untitled"


def date_of(entry):
    """Return when an entry says it came out, or None. Nonsense is no date."""
    # Not `entry.get("updated_parsed")` first: feedparser warns where it has only «published».
    for name in ("published_parsed", "updated_parsed", "created_parsed"):
        if dict.get(entry, name):
            try:
                return datetime.fromtimestamp(calendar.timegm(entry[name]), UTC)
            except (ValueError, OverflowError, OSError):
                continue
    return None


def slug_of(title, key):
    """Make an address from a title that no other post has: with a part of the key if need be.

    `forms.free_slug` counts up, which takes long for a thousand entries of one title.
    """
    base = slugify(title)[: LONGEST_TITLE - 9].strip("-_") or "post"
    return f"{base}-{key[:8]}" if Post.objects.filter(slug=base).exists() else base


def plain(markup):
    """Return the text of a piece of HTML, in one line."""
    text = html.unescape(nh3.clean(markup, tags=set()))
    return " ".join(storable(text).split())


def storable(text):
    """Drop what databases or XML refuse: control characters and halves of surrogate pairs."""
    return without_control_characters(text.encode("utf-8", "ignore").decode())


def is_web(url):
    """Whether an address can be linked to."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def header(feed, name, value):
    """Return a header to send back next time; «» when it is longer than its column."""
    return value if len(value) <= feed._meta.get_field(name).max_length else ""
