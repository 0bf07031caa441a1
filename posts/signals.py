"""Sends tasks when posts change."""

from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver

from .models import Post
from .tasks.analysis import analyse_post


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
