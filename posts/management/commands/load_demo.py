"""A few posts, an account and readers, so that a new site has something to show."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from posts.analysis import analyse
from posts.covers import draw_cover
from posts.models import Analysis, Post, Subscriber

FOLDER = Path(__file__).resolve().parents[2] / "demo"


class Command(BaseCommand):
    help = (
        "Load demo posts and the account demo (password demo), once: nothing happens when there "
        "is a post already. For development only."
    )

    def handle(self, *args, **options):
        """Load all or nothing. Sends no tasks, so that no broker is needed.

        Raises:
            CommandError: DEBUG is off. The account's password is known to everyone.
        """
        if not settings.DEBUG:
            raise CommandError(
                "load_demo makes an administrator whose password is “demo”. It runs only where "
                "DEBUG is on."
            )
        if Post.objects.exists():
            self.stdout.write("There are posts already, so the demo posts were not loaded.")
            return
        with transaction.atomic():
            posts = self.load_posts(demo_user())
            # Nobody's addresses (RFC 2606): the newsletter is printed, or refused by a mail server.
            Subscriber.objects.bulk_create(
                Subscriber(email=f"{name}@example.org", confirmed_at=timezone.now())
                for name in ("ada", "grace", "joan")
            )
        self.stdout.write(f"Loaded {posts} demo posts. Sign in as “demo” with the password “demo”.")

    def load_posts(self, author):
        # bulk_create sends no signals, and so no tasks.
        Post.objects.bulk_create(read_post(path, author) for path in sorted(FOLDER.glob("*.md")))
        posts = Post.objects.all()
        posts.published().update(created_at=F("published_at"), updated_at=F("published_at"))
        Analysis.objects.bulk_create(
            Analysis(post=post, post_updated_at=post.updated_at, **asdict(analyse(post.body)))
            for post in posts
        )
        return len(posts)


def demo_user():
    """Return the account `demo`, made with the password `demo` unless it is there already."""
    User = get_user_model()
    user = User.objects.filter(username="demo").first()
    return user or User.objects.create_superuser("demo", password="demo", first_name="Dana Demo")


def read_post(path, author):
    """Make a post of a demo file: a few `Name: value` lines, an empty line, and Markdown.

    Args:
        path (Path): the file; its stem is the post's slug.
        author (User): whose post it is.

    Returns:
        Post: not saved yet.
    """
    head, body = path.read_text(encoding="utf-8").split("\n\n", 1)
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    post = Post(
        title=fields["Title"],
        slug=path.stem,
        body=body,
        author=author,
        status=fields.get("Status", Post.Status.PUBLISHED),
    )
    if "Days-ago" in fields:
        post.published_at = timezone.now() - timedelta(days=int(fields["Days-ago"]))
    if "Cover" in fields:
        post.cover = draw_cover(fields["Cover"])
        post.cover_alt = fields["Cover-alt"]
    return post
