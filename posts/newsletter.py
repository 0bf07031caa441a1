"""The newsletter: who gets it, what is in it, and who has had it. Knows nothing of Celery."""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import Count
from django.template.loader import render_to_string
from django.utils import timezone

from .analysis import analyse
from .mailing import INVALID, Mailer, MaybeSent, NotTaken, Refused
from .models import Delivery, Newsletter, Post, Subscriber
from .subscribing import UNSUBSCRIBE, link

logger = logging.getLogger(__name__)

BATCH_SIZE = 50
# Seconds that a batch goes on beginning mails. The rest is for its next try, so that a mail server
# which answers slowly never brings it near the time limit.
BATCH_SECONDS = 120


def promise(post):
    """Make sure that a post which has just been published is mailed, once and for all.

    Call it in the transaction that publishes. A post that comes out a second time has its
    newsletter already, unless it was taken back before that was finished.

    Args:
        post (Post): a published post.

    Returns:
        Newsletter | None: what has to be sent after the commit, None when it has been.
    """
    newsletter, created = Newsletter.objects.get_or_create(post=post)
    if newsletter.finished_at:
        return None
    if not created:
        newsletter.promised_at, newsletter.queued_at = timezone.now(), None
        newsletter.save(update_fields=["promised_at", "queued_at"])
    return newsletter


def audience(newsletter):
    """Return the subscribers who should have a newsletter and have not.

    Those who had confirmed when it was promised: later ones read the post on the site.
    """
    return (
        Subscriber.objects.active()
        .filter(confirmed_at__lte=newsletter.promised_at)
        .exclude(delivery__newsletter=newsletter)
        .order_by("pk")
    )


def batches(newsletter):
    """Return the primary keys of the audience in lists of at most BATCH_SIZE."""
    ids = list(audience(newsletter).values_list("pk", flat=True))
    return [ids[first : first + BATCH_SIZE] for first in range(0, len(ids), BATCH_SIZE)]


@dataclass
class Outcome:
    """What became of a batch. ``waiting`` may get the newsletter at the next try."""

    sent: int = 0
    refused: int = 0
    uncertain: int = 0
    waiting: list[int] = field(default_factory=list)


def deliver(newsletter_id, subscriber_ids):
    """Mail a newsletter to some subscribers, over one connection.

    Each is claimed by a row before the mail goes out, so none gets two, whatever runs at the same
    time or again. The claim is given back when the server has certainly not taken the mail. It
    stays, as «claimed», when nobody can know: the connection broke after the mail was handed over,
    or the process was killed between claim and answer. One mail too few is better than two.

    Args:
        newsletter_id (int): primary key of the newsletter.
        subscriber_ids (list[int]): primary keys of subscribers. Who has unsubscribed meanwhile, or
            has the newsletter, is passed over.

    Returns:
        Outcome: what became of them.
    """
    outcome = Outcome()
    newsletter = published(newsletter_id)
    if newsletter is None:
        return outcome
    write = letter(newsletter)
    stop_at = time.monotonic() + BATCH_SECONDS
    subscribers = list(audience(newsletter).filter(pk__in=subscriber_ids))
    with Mailer() as mailer:
        for number, subscriber in enumerate(subscribers):
            try:
                mailer.open()  # With no server nobody is claimed.
            except NotTaken as error:
                logger.warning("%s: %s", newsletter, error)
                stop_at = 0
            if time.monotonic() > stop_at:
                outcome.waiting += [left.pk for left in subscribers[number:]]
                break
            claim, created = Delivery.objects.get_or_create(
                newsletter=newsletter, subscriber=subscriber
            )
            if created:
                deliver_one(mailer, claim, write, outcome)
    return outcome


def deliver_one(mailer, claim, write, outcome):
    """Mail to one subscriber who has been claimed, and note what became of it.

    Args:
        mailer (Mailer): an open connection.
        claim (Delivery): the row. Updated, or deleted when the mail has to be sent again.
        write (Callable[[Subscriber], EmailMessage]): makes the mail.
        outcome (Outcome): where to count.
    """
    try:
        mailer.send(write(claim.subscriber))
        claim.status = Delivery.Status.SENT
        outcome.sent += 1
    except NotTaken as error:
        logger.info("%s: %s", claim, error)
        claim.delete()
        outcome.waiting.append(claim.subscriber_id)
        return
    except MaybeSent as error:
        claim.reason = str(error)
        outcome.uncertain += 1
    except (Refused, *INVALID) as error:  # The latter: no mail can be made for this address.
        claim.status, claim.reason = Delivery.Status.REFUSED, str(error) or repr(error)
        outcome.refused += 1
    claim.reason = claim.reason[: Delivery._meta.get_field("reason").max_length]
    claim.save(update_fields=["status", "reason"])


def finish(newsletter_id):
    """Write what became of a newsletter on its row.

    Counted from the deliveries, not from what batches say: those may have run twice, or died.

    Args:
        newsletter_id (int): primary key of the newsletter.

    Returns:
        str: such as «1,248 sent, 2 refused».
    """
    newsletter = Newsletter.objects.select_related("post").filter(pk=newsletter_id).first()
    if newsletter is None:
        return "The post is gone."
    deliveries = Delivery.objects.filter(newsletter=newsletter).values_list("status")
    count = Counter(dict(deliveries.annotate(Count("pk"))))
    waiting = audience(newsletter).count()
    newsletter.summary = f"{count['sent']:,} sent, {count['refused']:,} refused"
    if count["claimed"]:
        newsletter.summary += f", {count['claimed']:,} uncertain"
    if waiting:
        newsletter.summary += f", {waiting:,} waiting"
    elif newsletter.post.status == Post.Status.PUBLISHED:
        newsletter.finished_at = timezone.now()
    newsletter.save(update_fields=["summary", "finished_at"])
    return newsletter.summary


def published(newsletter_id):
    """Return a newsletter whose post is public, or None: it may have been taken back."""
    newsletters = Newsletter.objects.select_related("post__author")
    return newsletters.filter(pk=newsletter_id, post__status=Post.Status.PUBLISHED).first()


def letter(newsletter):
    """Return a function that writes the newsletter to one subscriber.

    What is the same for all is made once; a mistake in it stops the batch here, before anybody is
    claimed, instead of making each recipient look bad.

    Args:
        newsletter (Newsletter): with its post.

    Returns:
        Callable[[Subscriber], EmailMessage]: the mail has the headers for one-click unsubscribing
        (RFC 8058), which big providers ask of bulk mail. They trust them in mails with a DKIM
        signature, which is the mail server's part.
    """
    post = newsletter.post
    context = {"post": post, "summary": analyse(post.body).summary, "site_url": settings.SITE_URL}
    host = urlsplit(settings.SITE_URL).hostname

    def write(subscriber):
        stop = link("posts:newsletter_unsubscribe", UNSUBSCRIBE, subscriber)
        return EmailMessage(
            subject=" ".join(post.title.split()),
            body=render_to_string("posts/mail/newsletter.txt", {**context, "unsubscribe": stop}),
            to=[subscriber.email],
            headers={
                "List-Unsubscribe": f"<{stop}>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
                # The same whenever it is sent: mailboxes show a second copy once.
                "Message-ID": f"<newsletter-{newsletter.pk}-{subscriber.pk}@{host}>",
            },
        )

    write(Subscriber(pk=0, email="nobody@example.org")).message()
    return write
