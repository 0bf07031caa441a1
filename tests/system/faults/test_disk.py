"""The disk is full when an export is written."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import need

from .site import LOAD

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


# A program sees a disk of its own in a folder: "$0". In a namespace of Linux, that needs no rights.
NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-c")
ON_A_SMALL_DISK = (*NAMESPACE, 'mount -t tmpfs -o size=1m none "$0" && exec "$@"')


def try_namespaces():
    try:
        subprocess.run([*ON_A_SMALL_DISK, "/mnt", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise LookupError("no namespaces, in which a test may have a small disk") from None


def test_an_export_to_a_full_disk(site):
    """It is a FAILURE that says why, nothing half-written is left, and all else goes on. With room
    again, it can be retried.
    """
    need(try_namespaces)
    site.env["EXPORT_SECONDS"] = "0"
    author = int(site.manage("shell", "--verbosity", "0", "-c", MAKE_POSTS).output.split()[-1])
    exports = site.state / "exports"
    exports.mkdir(parents=True)
    command = ["celery", "-A", "blog", "worker", "-l", "INFO", "-c", "2"]
    worker = site.start(*ON_A_SMALL_DISK, exports, *command).wait_for_output(" ready.")
    disk = Path(f"/proc/{worker.pid}/root{exports}")  # as the worker sees it
    other = disk / "other"
    other.write_bytes(b"." * 1_000_000)
    site.send(0, LOAD)
    site.wait_for_effects(LOAD // 10)
    [export] = site.call([EXPORT, [author], {}])
    site.wait_for_all_calls_to_end()
    assert site.effects_are_complete()
    status, result = site.result_of(export)
    assert (status, result["exc_type"]) == ("FAILURE", "OSError")
    assert "No space left on device" in str(result["exc_message"])
    assert list(disk.iterdir()) == [other]
    other.unlink()
    assert site.retry_failures(EXPORT) == 1
    site.wait_for_all_calls_to_end()
    [archive] = disk.iterdir()
    assert archive.stat().st_size > 400_000
    assert worker.running
    assert site.end() == []
