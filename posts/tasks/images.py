"""Thumbnails: work for the processor, in several tasks that can run on several machines."""

from pathlib import Path

from celery import group, shared_task
from celery.utils.log import get_task_logger
from django.core.files.storage import default_storage

from ..images import WIDTHS, folder_of, others_than, thumbnail_name, write_thumbnail
from ..models import Post
from ..runs import part_id
from .cancelling import CancellableTask

logger = get_task_logger(__name__)


@shared_task(bind=True, base=CancellableTask)
def make_thumbnails(self, post_id):
    """Bring a post's thumbnails in line with its cover: remove older ones, send a task a width.

    Sent when a cover was saved, replaced or removed, and when its post was deleted. Safe to run
    twice: it looks at what is there, and the parts overwrite what they wrote. It does not wait for
    them. Queue «slow», as its parts; the default time limits. Raises nothing of its own.

    Args:
        post_id (int): the post's primary key. The post may be gone.

    Returns:
        dict: «removed», how many files, and «widths», those that are being made.
    """
    cover = cover_of(post_id)
    removed = others_than(post_id, cover)
    for path in removed:
        path.unlink(missing_ok=True)
    if not cover:
        logger.info("Post %s has no cover: %d thumbnails removed.", post_id, len(removed))
        return {"removed": len(removed), "widths": []}
    # Ids that follow from this task's: run twice, the parts are the same.
    group(
        make_thumbnail.s(post_id, width).set(task_id=part_id(self.request.id, width))
        for width in WIDTHS
    ).apply_async()
    return {"removed": len(removed), "widths": list(WIDTHS)}


@shared_task(base=CancellableTask, soft_time_limit=60, time_limit=90)
def make_thumbnail(post_id, width):
    """Make one thumbnail of a post's cover.

    Safe to run twice: it writes the same picture to the same place. When the cover was replaced
    meanwhile, the thumbnail goes again. Queue «slow», because it keeps a processor busy: short
    tasks must not wait behind it. Limits 60 s (soft) and 90 s (hard).

    Args:
        post_id (int): the post's primary key.
        width (int): pixels.

    Returns:
        list[int] | None: width and height; None where the cover is no wider, or there is none.

    Raises:
        BadImage: the cover is too large, damaged, or no image. Tried again it would fail again.
        FileNotFoundError: the cover's file is gone.
        OSError: the thumbnail cannot be written.
    """
    cover = cover_of(post_id)
    if not cover:
        return None
    target = folder_of(post_id) / thumbnail_name(cover, width)
    size = write_thumbnail(Path(default_storage.path(cover)), target, width)
    if cover_of(post_id) != cover:
        target.unlink(missing_ok=True)
        return None
    return size


def cover_of(post_id):
    """Return the name of a post's cover; «» where there is none, or no such post."""
    return Post.objects.filter(pk=post_id).values_list("cover", flat=True).first() or ""
