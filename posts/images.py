"""Thumbnails of covers. Knows nothing of Celery, so it can be tested alone.

They lie in a folder for each post, under a name that follows from the cover's: storages never give
a name twice, so a thumbnail that is there is right. The storage has to be a folder, which is
Django's default; all web and worker hosts share it.
"""

import hashlib
import os
import struct
import tempfile
import time
from pathlib import Path

from django.conf import settings
from PIL import Image, ImageOps, UnidentifiedImageError

WIDTHS = (320, 640, 1280)  # pixels: a phone, the site's column, the same on a fine screen
MAX_PIXELS = 40_000_000  # decoded, that is 160 MB of memory
FORMATS = ("AVIF", "GIF", "JPEG", "PNG", "WEBP")
QUALITY = 80
PARTIAL = ".partial-"
LEFT_BEHIND_AFTER = 10 * 60  # seconds; longer than `make_thumbnail` may take
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error)  # what decoders raise


class BadImage(Exception):
    """A file of which no thumbnail can be made. Says what is wrong with it."""


def folder_of(post_id):
    """Return the folder with a post's thumbnails, a Path."""
    return Path(settings.MEDIA_ROOT) / "thumbnails" / str(post_id)


def thumbnail_name(cover, width):
    """Return the file name of a thumbnail.

    Args:
        cover (str): the cover's name in the storage.
        width (int): pixels.
    """
    return f"{hashlib.sha256(cover.encode()).hexdigest()[:16]}-{width}.webp"


def thumbnails(post_id, cover):
    """Find the thumbnails of a cover.

    Args:
        post_id (int): whose cover it is.
        cover (str | None): the cover's name in the storage; None or «» for none.

    Returns:
        dict[int, str]: width in pixels and URL, the smallest first; empty where there is none.
    """
    folder, found = folder_of(post_id), {}
    for width in WIDTHS:
        name = thumbnail_name(cover, width) if cover else ""
        if name and (folder / name).exists():
            found[width] = f"{settings.MEDIA_URL}thumbnails/{post_id}/{name}"
    return found


def others_than(post_id, cover):
    """List the files in a post's folder that are not of this cover: what may be removed.

    Args:
        post_id (int): the post, which need not exist any more.
        cover (str): the cover's name in the storage; «» for none.

    Returns:
        list[Path]: older thumbnails, and files that a killed process left half-written.
    """
    wanted = {thumbnail_name(cover, width) for width in WIDTHS} if cover else set()
    paths = folder_of(post_id).glob("*.webp")  # `.partial-*.webp` too
    return [path for path in paths if path.name not in wanted and not being_written(path)]


def being_written(path):
    """Whether a process is at work on a file: a partial one that is younger than any time limit."""
    try:
        young = time.time() - path.stat().st_mtime < LEFT_BEHIND_AFTER
    except FileNotFoundError:  # it has been moved to its place
        young = True
    return path.name.startswith(PARTIAL) and young


def out_of_date(post_id, cover):
    """Whether `posts.tasks.images.make_thumbnails` has something to do for a post."""
    missing = cover and not thumbnails(post_id, cover)
    return bool(missing or others_than(post_id, cover))


def write_thumbnail(source, target, width):
    """Make a small copy of an image, as WebP and without metadata.

    The copy is written beside its place and moved there when it is whole: nobody ever sees half of
    it, and two processes that do the same leave the same. Nothing is made larger than it is, except
    that the smallest width is always there.

    Args:
        source (Path): the image.
        target (Path): where the copy goes; an older one is replaced.
        width (int): pixels; the height follows.

    Returns:
        list[int] | None: width and height of the copy; None where the image is no wider than that.

    Raises:
        BadImage: too large, damaged, or not of a type that browsers show.
        FileNotFoundError: the image is gone.
        OSError: the copy cannot be written.
    """
    image = read_image(source, width)
    if image.width <= width and width != min(WIDTHS):
        return None
    image.thumbnail((width, image.height), Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL, suffix=".webp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            image.save(file, "WEBP", quality=QUALITY)
        os.chmod(partial, settings.FILE_UPLOAD_PERMISSIONS)  # mkstemp's are for the owner alone
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return list(image.size)


def read_image(source, width):
    """Decode an image that may be hostile.

    The size is checked before anything is decoded: a «bomb» is a small file that would fill the
    memory.

    Args:
        source (Path): the file.
        width (int): what is wanted; JPEGs are decoded no finer than needed for it.

    Returns:
        PIL.Image.Image: upright, with colours that WebP has.

    Raises:
        BadImage: see `write_thumbnail`.
        FileNotFoundError: the image is gone.
    """
    name = source.name
    with source.open("rb") as file:
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            raise BadImage(f"{name} is no image of these types: {', '.join(FORMATS)}.") from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise BadImage(f"{name} has far more pixels than the {MAX_PIXELS:,} allowed.") from None
        except DAMAGED as error:
            raise BadImage(f"{name} is damaged: {error}") from None
        if image.width * image.height > MAX_PIXELS:
            raise BadImage(
                f"{name} has {image.width} × {image.height} pixels, and a cover may have "
                f"{MAX_PIXELS:,}."
            )
        try:
            image.draft("RGB", (width, width))
            image.load()
            image = ImageOps.exif_transpose(image)
        except DAMAGED as error:
            raise BadImage(f"{name} is damaged: {error}") from None
    opaque = image.mode in ("RGB", "L") or not image.has_transparency_data
    return image.convert("RGB" if opaque else "RGBA")
