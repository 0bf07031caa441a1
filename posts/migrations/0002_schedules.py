"""Creates the schedules once. From then on they are edited in the admin, under «Periodic tasks».

Settings could hold them too (CELERY_BEAT_SCHEDULE), but beat would then undo every edit at start.

`expire_seconds` is for the time when no worker is there: a message older than that is dropped, so
that a night without workers ends with one run of each, not with one for every minute.
"""

from django.conf import settings
from django.db import migrations
from django.utils import timezone

HOUR = 60 * 60


def create_schedules(apps, schema_editor):
    IntervalSchedule = apps.get_model("django_celery_beat", "IntervalSchedule")
    CrontabSchedule = apps.get_model("django_celery_beat", "CrontabSchedule")
    PeriodicTask = apps.get_model("django_celery_beat", "PeriodicTask")
    PeriodicTasks = apps.get_model("django_celery_beat", "PeriodicTasks")

    def at(hour, minute, day_of_week="*"):
        crontab, _ = CrontabSchedule.objects.get_or_create(
            hour=hour,
            minute=minute,
            day_of_week=day_of_week,
            day_of_month="*",
            month_of_year="*",
            timezone=settings.TIME_ZONE,
        )
        return crontab

    def create(name, task, **fields):
        PeriodicTask.objects.get_or_create(name=name, defaults={"task": task, **fields})

    minute, _ = IntervalSchedule.objects.get_or_create(every=1, period="minutes")
    create(
        "Publish scheduled posts",
        "posts.tasks.publishing.publish_due_posts",
        interval=minute,
        expire_seconds=60,
    )
    create(
        "Remove old exports",
        "posts.tasks.upkeep.remove_old_exports",
        crontab=at(3, 30),
        expire_seconds=12 * HOUR,
    )
    create(
        "Send the weekly digest",
        "posts.tasks.upkeep.send_weekly_digest",
        crontab=at(7, 0, day_of_week=1),
        expire_seconds=24 * HOUR,
    )
    create(
        "celery.backend_cleanup",
        "celery.backend_cleanup",
        crontab=at(4, 0),
        expire_seconds=12 * HOUR,
        description="Deletes results that are older than CELERY_RESULT_EXPIRES.",
    )
    # By this row beat sees that something has changed. Models save it themselves, but not in a
    # migration; while there is none, a running beat misses the first edit for five minutes.
    PeriodicTasks.objects.update_or_create(ident=1, defaults={"last_update": timezone.now()})


class Migration(migrations.Migration):
    dependencies = [
        ("posts", "0001_initial"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(create_schedules, migrations.RunPython.noop)]
