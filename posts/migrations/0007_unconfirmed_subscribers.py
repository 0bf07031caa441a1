"""Creates the schedule of `remove_unconfirmed_subscribers`, see 0002_schedules."""

from django.conf import settings
from django.db import migrations


def create_schedule(apps, schema_editor):
    CrontabSchedule = apps.get_model("django_celery_beat", "CrontabSchedule")
    PeriodicTask = apps.get_model("django_celery_beat", "PeriodicTask")
    crontab, _ = CrontabSchedule.objects.get_or_create(
        hour=3,
        minute=45,
        day_of_week="*",
        day_of_month="*",
        month_of_year="*",
        timezone=settings.TIME_ZONE,
    )
    PeriodicTask.objects.get_or_create(
        name="Remove unconfirmed subscribers",
        defaults={
            "task": "posts.tasks.newsletter.remove_unconfirmed_subscribers",
            "crontab": crontab,
            "expire_seconds": 12 * 60 * 60,
        },
    )


class Migration(migrations.Migration):
    dependencies = [
        ("posts", "0006_run_cancelled_at"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]

    operations = [migrations.RunPython(create_schedule, migrations.RunPython.noop)]
