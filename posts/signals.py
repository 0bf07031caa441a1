"""Sends tasks when posts change."""

from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from . import images
from .models import Post
from .tasks.analysis import analyse_post
from .tasks.images import make_thumbnails


@receiver(post_save, sender=Post)
def analyse_after_save(instance, raw, **kwargs):
    """Have a saved post analysed.

    After commit: a worker is faster than a transaction, and would not find the post or would read
    the old text; and after a rollback nothing may be sent. Robust: a broker that is down must not
    break a save, so Django logs the error and goes on. Not for fixtures (``raw``), whose related
    rows may not be there yet.
    """
    if raw:
        return

    # A function, not functools.partial: Django logs the name of a robust callback that failed,
    # and a partial has none, so that the save would break on the log line.
    def send():
        analyse_post.delay(instance.pk)

    transaction.on_commit(send, robust=True)


@receiver(post_save, sender=Post)
def make_thumbnails_after_save(instance, raw, **kwargs):
    """Have the thumbnails made of a cover that is new, and removed of one that is gone.

    After commit and robust, as above. What there is to do is seen in the post's folder.
    """
    if not raw and images.out_of_date(instance.pk, instance.cover.name):
        send_make_thumbnails(instance.pk)


@receiver(post_delete, sender=Post)
def remove_thumbnails_after_delete(instance, **kwargs):
    """Have the thumbnails of a deleted post removed."""
    if images.out_of_date(instance.pk, ""):
        send_make_thumbnails(instance.pk)


def send_make_thumbnails(post_id):
    def send():
        make_thumbnails.delay(post_id)

    transaction.on_commit(send, robust=True)
