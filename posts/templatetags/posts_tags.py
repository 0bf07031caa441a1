"""Filters of the templates: `{% load posts_tags %}`."""

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import mark_safe

from .. import images, markup

register = template.Library()

UNITS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


@register.filter
def duration(seconds):
    """Say how long something takes: «0 s», «3 min».

    A unit is used from two of it on: «1 d» would hide up to 23 hours.

    Args:
        seconds (float): not negative.
    """
    name, unit = next((pair for pair in UNITS if seconds >= 2 * pair[1]), UNITS[-1])
    return f"{int(seconds // unit)} {name}"


@register.filter
def seconds(length):
    """Say how long something took, exactly: «0.04 s», «12.8 s», «2 min 5 s».

    Args:
        length (timedelta | None): not negative.

    Returns:
        str: «» for None.
    """
    if length is None:
        return ""
    total = length.total_seconds()
    if total < 60:
        return f"{total:.{2 if total < 10 else 1}f} s"
    minutes, rest = divmod(round(total), 60)
    return f"{minutes} min {rest} s"


@register.filter
def outcome(result):
    """Write what a task returned: «words: 1,250, links: 3», «nothing» for None."""
    if result is None:
        return "nothing"
    if isinstance(result, dict):
        return ", ".join(f"{name}: {outcome(value)}" for name, value in result.items())
    if isinstance(result, list):
        return "[" + ", ".join(outcome(value) for value in result) + "]"
    return f"{result:,}" if isinstance(result, int) else str(result)


@register.filter
def unlocalise(number):
    """Write a number for an attribute: two decimals, and always a point."""
    return f"{number:.2f}"


@register.filter
def ago(moment, now=None):
    """Say how long ago a moment was: «3 s ago», «in 47 h», with the exact time in the title.

    Args:
        moment (datetime | None): an aware datetime.
        now (datetime | None): instead of the present, for tests.

    Returns:
        SafeString: a ``<time>`` element, or «» for None.
    """
    if moment is None:
        return ""
    seconds = ((now or timezone.now()) - moment).total_seconds()
    size = abs(seconds)
    length = duration(size)
    words = f"{length} ago" if seconds >= 0 else f"in {length}"
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        date_format(local, "j F Y, H:i:s T"),
        words if size >= 1 else "now",
    )


@register.filter
def day(moment):
    """Write a date out: «20 November 2025», in a ``<time>`` element; «» for None."""
    if moment is None:
        return ""
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(timespec="seconds"),
        date_format(local, "j F Y, H:i T"),
        date_format(local, "j F Y"),
    )


@register.filter
def markdown(text):
    """Render Markdown as sanitised HTML: see `posts.markup.to_html`."""
    return mark_safe(markup.to_html(text))


@register.inclusion_tag("posts/_cover.html")
def cover(post, alt="", lazy=False):
    """Show a post's cover: the browser chooses among its thumbnails, once they are made.

    Args:
        post (Post): a post with a cover.
        alt (str): what it shows; «» when it is decoration.
        lazy (bool): load it when it comes into view.
    """
    found = images.thumbnails(post.pk, post.cover.name)
    return {"post": post, "alt": alt, "lazy": lazy, "thumbnails": found.items()}
