"""A task that beat sends each minute."""

from celery import shared_task
from celery.utils.log import get_task_logger
from django.db import transaction

from ..models import Newsletter, Post
from .newsletter import announce, queue

logger = get_task_logger(__name__)


@shared_task
def publish_due_posts():
    """Publish the scheduled posts whose date has come, and have their newsletters sent.

    Safe to run twice, and from two beats at once: the database decides who publishes which post,
    the promise of its newsletter is made in the same transaction, and the message is sent after
    the commit. It also sends the newsletters that were promised and not sent: the broker was down
    after the commit, or the mail server for an hour. A run that was missed is made good by the
    next. No analysis is due, because the text stays as it was. Queue «celery», the default time
    limits.

    Returns:
        int: how many posts this run published.

    Raises:
        kombu.exceptions.OperationalError: the broker went down. The next run goes on.
    """
    with transaction.atomic():
        posts = Post.objects.publish_due()
        for post in posts:
            announce(post)
    for newsletter in Newsletter.objects.waiting():
        queue(newsletter)
    if posts:
        logger.info("Published %d posts.", len(posts))
    return len(posts)
