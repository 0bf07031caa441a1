"""Creates the schedules once. From then on they are edited in the admin, under «Periodic tasks».

Settings could hold them too (CELERY_BEAT_SCHEDULE), but beat would then undo every edit at start.
"""

from django.db import migrations


def create_schedules(apps, schema_editor):
    IntervalSchedule = apps.get_model("django_celery_beat", "IntervalSchedule")
    PeriodicTask = apps.get_model("django_celery_beat", "PeriodicTask")
    minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    PeriodicTask.objects.get_or_create(
        name="Publish scheduled posts",
        defaults={
            "task": "posts.tasks.publishing.publish_due_posts",
            "interval": minute,
            # When no worker is there, the next run makes this one needless.
            "expire_seconds": 60,
        },
    )


class Migration(migrations.Migration):
    dependencies = [
        ("posts", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(create_schedules, migrations.RunPython.noop)]
