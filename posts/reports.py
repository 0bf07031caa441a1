"""Figures about the whole blog. Knows nothing of Celery, so it can be tested alone."""

from collections import Counter
from urllib.parse import urlsplit

from .analysis import analyse
from .models import Post


def texts(post_ids):
    """Yield the texts of posts, one at a time. A post that is gone by now is left out."""
    yield from Post.objects.filter(pk__in=post_ids).values_list("body", flat=True).iterator()


def reading_figures(post_ids):
    """Say how much there is to read.

    Args:
        post_ids (list[int]): primary keys.

    Returns:
        dict: «words» and «minutes», in all of them together.
    """
    found = [analyse(text) for text in texts(post_ids)]
    return {
        "words": sum(one.words for one in found),
        "minutes": sum(one.reading_minutes for one in found),
    }


def link_figures(post_ids):
    """Say where the posts lead.

    Args:
        post_ids (list[int]): primary keys.

    Returns:
        dict: «links», how many, and «hosts», how many different ones they lead to.
    """
    hosts = Counter(
        urlsplit(link).hostname for text in texts(post_ids) for link in analyse(text).links
    )
    return {"links": hosts.total(), "hosts": len(hosts)}
