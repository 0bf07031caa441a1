"""Writes the whole blog into one archive. Knows nothing of Celery, so it can be tested alone."""

import json
import os
import re
import tempfile
import zipfile
from pathlib import Path

from .models import Post


def write_export(path, on_progress=lambda done, total: None):
    """Write all posts as Markdown files into a zip archive.

    The archive is written beside its place and moved there when it is whole, so that ``path``
    never holds half an export, also when the process is stopped in the middle.

    Args:
        path (Path): where the archive goes; an older one there is replaced.
        on_progress (Callable[[int, int], None]): called with (posts done, posts in all), first
            with (0, total) and then after each post.

    Returns:
        int: the number of posts written.

    Raises:
        OSError: the archive cannot be written (no space, no permission).
    """
    posts = Post.objects.select_related("author").order_by("pk")
    total = posts.count()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix=".zip")
    try:
        with os.fdopen(descriptor, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            on_progress(0, total)
            done = 0
            for done, post in enumerate(posts.iterator(), 1):
                archive.writestr(f"posts/{post.slug}.md", as_markdown(post))
                on_progress(done, total)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return done


def as_markdown(post):
    """Return a post as a Markdown file with its metadata at the top.

    Args:
        post (Post): the post.
    """
    head = {
        "title": post.title,
        "author": post.author.get_username(),
        "status": post.status,
        "date": post.published_at.isoformat() if post.published_at else None,
    }
    # JSON strings are YAML strings too, so titles with quotes and colons stay whole.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    body = re.sub(r"\r\n?", "\n", post.body).strip()
    return "\n".join(["---", *lines, "---", "", body, ""])
