"""Posts that are public already are no news: without a row here, publishing one again would mail it."""

from django.db import migrations
from django.utils import timezone


def mark_published_posts(apps, schema_editor):
    Post = apps.get_model("posts", "Post")
    Newsletter = apps.get_model("posts", "Newsletter")
    now = timezone.now()
    Newsletter.objects.bulk_create(
        (
            Newsletter(
                post=post,
                promised_at=now,
                queued_at=now,
                finished_at=now,
                summary="Not sent: the post is older than the newsletter.",
            )
            for post in Post.objects.filter(status="published", newsletter=None).only("pk")
        ),
        batch_size=500,
    )


class Migration(migrations.Migration):
    dependencies = [("posts", "0004_newsletter_and_feeds")]

    operations = [migrations.RunPython(mark_published_posts, migrations.RunPython.noop)]
