"""A workflow: one task, then two at the same time, then one that has both results.

collect_posts → (count_words ∥ count_links) → combine_report
      └────────── a failure in any of them ──────────→ report_failed
"""

import time

from celery import chain, group, shared_task
from celery.result import AsyncResult
from celery.utils.log import get_task_logger

from ..models import Post
from ..reports import link_figures, reading_figures
from ..runs import part_id
from .cancelling import CancellableTask

logger = get_task_logger(__name__)


class ReportError(Exception):
    """A part of the report cannot be made."""


def blog_report(run_id, seconds=1, fail=""):
    """Put the parts of a report together: a chain whose middle is a chord.

    A chord is a group, its header, and a task that gets the list of their results, its body. The
    message of each part carries what comes after it, so that no process waits for another.

    Args:
        run_id (str): id of the first part; the ids of the others follow from it, so that whoever
            knows one knows all.
        seconds (float): how long each part takes at least, so that there is something to see.
        fail (str): name of the part that fails, or «».

    Returns:
        celery.canvas.Signature: to be sent with ``apply_async()``.
    """

    def part(task, *args):
        signature = task.s(*args, seconds=seconds, fail=fail == task.__name__)
        return signature.set(task_id=part_id(run_id, task.__name__))

    # On the chord's body: it is called too when a task of the header fails, and then only once.
    on_error = report_failed.s().set(task_id=part_id(run_id, "report_failed"))
    return chain(
        part(collect_posts).set(task_id=str(run_id)).on_error(on_error),
        group(part(count_words), part(count_links)),
        part(combine_report).on_error(on_error),
    )


def work(name, seconds, fail):
    """Take some time, and fail if asked to."""
    time.sleep(seconds)
    if fail:
        raise ReportError(f"{name} was asked to fail")


@shared_task(base=CancellableTask)
def collect_posts(seconds=0, fail=False):
    """Choose the posts that the report is about: those that are published.

    Safe to run twice: it only reads. Hands on ids, not texts: messages stay small, and each part
    reads the posts as they are then. Queue «celery», the default time limits.

    Args:
        seconds (float): how long it takes at least.
        fail (bool): raise.

    Returns:
        list[int]: primary keys.

    Raises:
        ReportError: asked to. The other parts do not run, and end as FAILURE too.
    """
    work("collect_posts", seconds, fail)
    return list(Post.objects.published().order_by("pk").values_list("pk", flat=True))


@shared_task(base=CancellableTask)
def count_words(post_ids, seconds=0, fail=False):
    """Count the words of posts, at the same time as `count_links`.

    Safe to run twice: it only reads. Queue «celery», the default time limits.

    Args:
        post_ids (list[int]): what `collect_posts` returned.
        seconds (float): how long it takes at least.
        fail (bool): raise.

    Returns:
        dict: see `posts.reports.reading_figures`.

    Raises:
        ReportError: asked to. `count_links` goes on to its end, `combine_report` does not run.
    """
    work("count_words", seconds, fail)
    return reading_figures(post_ids)


@shared_task(base=CancellableTask)
def count_links(post_ids, seconds=0, fail=False):
    """Count the links of posts, at the same time as `count_words`.

    Safe to run twice: it only reads. Queue «celery», the default time limits.

    Args:
        post_ids (list[int]): what `collect_posts` returned.
        seconds (float): how long it takes at least.
        fail (bool): raise.

    Returns:
        dict: see `posts.reports.link_figures`.

    Raises:
        ReportError: asked to. `count_words` goes on to its end, `combine_report` does not run.
    """
    work("count_links", seconds, fail)
    return link_figures(post_ids)


@shared_task(base=CancellableTask)
def combine_report(found, seconds=0, fail=False):
    """Make one report of what the parts found. The body of the chord.

    Safe to run twice: it changes nothing. Queue «celery», the default time limits.

    Args:
        found (list[dict]): the results of the header, in its order whoever was first.
        seconds (float): how long it takes at least.
        fail (bool): raise.

    Returns:
        dict: «words», «minutes», «links» and «hosts».

    Raises:
        ReportError: asked to.
    """
    work("combine_report", seconds, fail)
    return {name: figure for figures in found for name, figure in figures.items()}


@shared_task(bind=True, max_retries=5, default_retry_delay=0.5)
def report_failed(self, task_id):
    """Record that a report failed: the error callback. Here somebody would be told.

    Sent when a part has failed; of a chord's header once, when all its tasks have ended, with the
    id of the body, which therefore does not run. Because it takes the id alone, it is a task with a
    result of its own; one that takes (request, exc, traceback) is called in the process of the
    failed task. Celery sends it before it stores that the body failed: it looks again half a second
    later, five times. Safe to run twice: a second line in the log is harmless. Queue «celery», the
    default time limits.

    Args:
        task_id (str): what failed.

    Returns:
        str: what went wrong.

    Raises:
        MaxRetriesExceededError: no failure was stored.
    """
    failed = AsyncResult(task_id)
    if not failed.failed():
        raise self.retry()
    logger.error("The report failed: %s", failed.result)
    return f"Recorded: {failed.result}"
