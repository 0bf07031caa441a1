"""A task that a saved post sends: the writer does not wait for it."""

from dataclasses import asdict

from celery import shared_task
from celery.utils.log import get_task_logger
from django.db import transaction

from ..analysis import analyse
from ..models import Analysis, Post

logger = get_task_logger(__name__)


@shared_task
def analyse_post(post_id):
    """Find a post's words, reading time, summary and links, and store them in its Analysis row.

    Safe to run twice: it reads the text as it is now and overwrites the same row. The post stays
    locked meanwhile, so that of two such tasks the later one has read the later text. Queue
    «celery», the default time limits: it takes milliseconds. Raises nothing of its own; a post that
    was deleted while the message waited is logged, and is no failure.

    Args:
        post_id (int): the post's primary key.

    Returns:
        dict | None: «words», «reading_minutes» and «links» (how many), or None without a post.
    """
    with transaction.atomic():
        post = Post.objects.select_for_update().filter(pk=post_id).first()
        if post is None:
            logger.warning("Post %s is gone: nothing to analyse.", post_id)
            return None
        found = analyse(post.body)
        Analysis.objects.update_or_create(
            post=post, defaults={**asdict(found), "post_updated_at": post.updated_at}
        )
    return {
        "words": found.words,
        "reading_minutes": found.reading_minutes,
        "links": len(found.links),
    }
