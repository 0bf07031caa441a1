"""An import over the network: what fails for a moment is tried again, what is wrong is not."""

from celery import shared_task

from ..feed_import import import_entries
from ..fetching import TryLater

LONGEST_WAIT = 5 * 60  # seconds; half the visibility timeout


@shared_task(
    bind=True,
    autoretry_for=(TryLater,),
    retry_backoff=5,
    retry_backoff_max=60,
    max_retries=4,
)
def import_feed(self, url, author_id):
    """Make a draft of each new entry of an RSS or Atom feed.

    Safe to run twice: an entry is claimed in the transaction that makes its draft, so none is
    imported again, neither by a run at the same time nor after its draft was deleted. Acknowledged
    early all the same: whoever asked can ask again. Queue «slow», the default time limits.

    A server that is away or answers 429 or 5xx is asked again up to four times: after 5, 10, 20 and
    40 s at most, at random, or after as long as it asks for (Retry-After), 5 minutes at most, which
    is less than the visibility timeout. Any other 4xx does not go away by itself: no retry.

    Args:
        url (str): the feed's address.
        author_id (int): primary key of the user who becomes the author.

    Returns:
        dict: ``{"new": drafts made, "known": entries imported before}``.

    Raises:
        ValueError: there is no such user, or the address is too long.
        FetchError: the address is not allowed or does not exist, or is no feed.
        TryLater: the server was away or busy each time.
        SoftTimeLimitExceeded: it took too long; the drafts made so far stay.
    """
    try:
        return import_entries(url, author_id)
    except TryLater as error:
        if error.after is None:
            raise  # autoretry_for chooses the pause.
        raise self.retry(exc=error, countdown=min(error.after, LONGEST_WAIT)) from error
