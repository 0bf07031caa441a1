"""A mail to many: a chord of batches, in which each recipient is claimed before the mail."""

from celery import chord, shared_task
from celery.utils.log import get_task_logger
from celery.utils.time import get_exponential_backoff_interval
from django.db import transaction
from django.utils import timezone

from .. import newsletter as letters
from .. import subscribing
from ..mailing import NotTaken
from ..models import Newsletter, Post

logger = get_task_logger(__name__)


def announce(post):
    """Have the newsletter of a post sent after the commit, unless it has been.

    Call it in the transaction that publishes the post: the promise is then kept or rolled back
    with it. With a broker that is down the commit stands, and `publish_due_posts` sends the
    newsletter when it is back.

    Args:
        post (Post): a post that has just been published.
    """
    newsletter = letters.promise(post)
    if newsletter:

        def send():
            queue(newsletter)

        # Robust: the post is public by then, and whoever published it should see that.
        transaction.on_commit(send, robust=True)


def queue(newsletter):
    """Send the task that sends a newsletter, and note that the broker has it.

    Killed between the two, it is queued again later: better twice, which is harmless, than never.

    Args:
        newsletter (Newsletter): a promise that has yet to be kept.

    Raises:
        kombu.exceptions.OperationalError: the broker is down.
    """
    send_newsletter.delay(post_id=newsletter.post_id)
    Newsletter.objects.filter(pk=newsletter.pk).update(queued_at=timezone.now())


@shared_task(bind=True, acks_late=True)
def send_newsletter(self, post_id):
    """Mail a post to all confirmed subscribers, in batches, and then write a summary.

    The batches are the header of a chord and run side by side; its body replaces this task under
    the same id, so the result is the summary. Safe to run twice: a subscriber who has been claimed
    for this newsletter is in no later batch. Acknowledged late therefore: when the worker is
    killed, another one goes on. Queue «celery», the default time limits: it sends no mail itself.
    Raises nothing of its own.

    Args:
        post_id (int): primary key of a published post. Any other is logged, and nothing is sent.

    Returns:
        str: such as «1,248 sent, 2 refused».
    """
    post = Post.objects.published().filter(pk=post_id).first()
    if post is None:
        logger.warning("Post %s is not published: no newsletter.", post_id)
        return "The post is not published."
    newsletter, _ = Newsletter.objects.get_or_create(post=post)
    if newsletter.finished_at:
        return newsletter.summary
    Newsletter.objects.filter(pk=newsletter.pk).update(queued_at=timezone.now())
    parts = letters.batches(newsletter)
    if not parts:
        return letters.finish(newsletter.pk)
    # One flat group: with results in the database, a group in a chord's header never ends.
    header = [send_batch.si(newsletter_id=newsletter.pk, subscriber_ids=ids) for ids in parts]
    finish = finish_newsletter.si(newsletter_id=newsletter.pk)
    # A batch that died takes the body with it. The error callback writes the summary instead.
    return self.replace(chord(header, finish.on_error(finish.clone())))


@shared_task(bind=True, acks_late=True, max_retries=4, rate_limit="1/s")
def send_batch(self, newsletter_id, subscriber_ids):
    """Mail a newsletter to some subscribers, see `posts.newsletter.deliver`.

    Safe to run twice: each recipient is claimed in the database before the mail goes out.
    Acknowledged late therefore: when the worker is killed, another one goes on with the rest. Who
    was not reached, because the mail server is away or says «later», is tried again after 5, 10,
    20 and 40 s at most, at random, so that batches do not come back all at once. A recipient that
    is refused, or of whom no mail can be made, is noted and does not stop the others.

    Not more than one batch a second begins, in each worker: with three workers it is three. Queue
    «slow», the default time limits, which it stays away from by itself. Raises nothing of its own:
    it returns what is left after its last try, so that the chord ends.

    Args:
        newsletter_id (int): primary key of the newsletter.
        subscriber_ids (list[int]): primary keys of subscribers.

    Returns:
        dict: ``{"sent": mails, "refused": mails, "uncertain": mails, "waiting": subscribers}`` of
        the last try.
    """
    outcome = letters.deliver(newsletter_id, subscriber_ids)
    if outcome.waiting and self.request.retries < self.max_retries:
        pause = get_exponential_backoff_interval(5, self.request.retries, 60, full_jitter=True)
        raise self.retry(countdown=pause)
    return {
        "sent": outcome.sent,
        "refused": outcome.refused,
        "uncertain": outcome.uncertain,
        "waiting": len(outcome.waiting),
    }


@shared_task(acks_late=True)
def finish_newsletter(newsletter_id):
    """Write the summary of a newsletter on its row: the body of the chord, and its error callback.

    Safe to run twice: it counts rows. Who is still waiting is tried again by `publish_due_posts`
    after an hour. Queue «celery», the default time limits. Raises nothing of its own.

    Args:
        newsletter_id (int): primary key of the newsletter.

    Returns:
        str: such as «1,248 sent, 2 refused, 48 waiting».
    """
    summary = letters.finish(newsletter_id)
    logger.info("Newsletter %s: %s.", newsletter_id, summary)
    return summary


@shared_task(autoretry_for=(NotTaken,), retry_backoff=5, max_retries=4)
def send_confirmation(subscriber_id):
    """Mail the link with which somebody confirms an address.

    Acknowledged early, as by default: whoever waits for the mail can ask again. Safe to run twice,
    since one address gets one such mail in ten minutes. With a mail server that is away it is tried
    again after 5, 10, 20 and 40 s at most. Queue «celery», the default time limits.

    Args:
        subscriber_id (int): primary key of the subscriber.

    Returns:
        bool: whether a mail went out.

    Raises:
        NotTaken: the mail server was away each time.
    """
    return subscribing.send_confirmation(subscriber_id)


@shared_task
def remove_unconfirmed_subscribers():
    """Delete the addresses that nobody has confirmed within three days: somebody typed them here.

    Safe to run twice, and from two beats at once: what is gone is gone. Queue «celery», the default
    time limits. Raises nothing of its own.

    Returns:
        int: how many addresses this run deleted.
    """
    return subscribing.remove_unconfirmed()
