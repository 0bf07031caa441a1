"""The disk is full when an export is written."""

import psutil
import pytest

from .site import LOAD

CALLS = LOAD // 5  # beside the export
pytestmark = pytest.mark.timeout(600)

EXPORT = "posts.tasks.export.export_blog"

MAKE_POSTS = """
import secrets
from django.contrib.auth import get_user_model
from posts.models import Post
author = get_user_model().objects.create(username="author")
for number in range(4):
    Post.objects.create(title=f"Post {number}", slug=f"post-{number}", author=author,
                        body=secrets.token_hex(100_000))
print(author.pk)
"""


def limit_files(worker, size):
    """Let the pool write no file beyond a size: to the process the same as a full disk."""
    for process in worker.family()[1:]:
        process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))


def test_an_export_to_a_full_disk(site):
    """It is a FAILURE that says why, nothing half-written is left, and all else goes on. With room
    again, it can be retried.
    """
    site.env["EXPORT_SECONDS"] = "0"
    author = int(site.manage("shell", "--verbosity", "0", "-c", MAKE_POSTS).output.split()[-1])
    worker = site.worker()
    limit_files(worker, 50_000)
    site.send(0, CALLS)
    [export] = site.call([EXPORT, [author], {}])
    site.wait_for_all_calls_to_end(CALLS)
    assert site.effects_are_complete(CALLS)
    status, result = site.result_of(export)
    assert (status, result["exc_type"]) == ("FAILURE", "OSError")
    assert "File too large" in str(result["exc_message"])
    exports = site.state / "exports"
    assert list(exports.iterdir()) == []
    limit_files(worker, psutil.RLIM_INFINITY)
    assert site.retry_failures(EXPORT) == 1
    site.wait_for_all_calls_to_end(CALLS)
    [archive] = exports.iterdir()
    assert archive.stat().st_size > 400_000
    assert worker.running
    assert site.end() == []
