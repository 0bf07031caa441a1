"""A beat that leaves the schedules as they were edited."""

from django_celery_beat.schedulers import DatabaseScheduler as StockScheduler


class DatabaseScheduler(StockScheduler):
    """django-celery-beat's scheduler, without the one schedule that it writes itself.

    At each start the stock scheduler writes `celery.backend_cleanup` anew: four o'clock, whatever
    somebody has chosen in the admin. Here a migration has created it, once, like the others.
    """

    def install_default_entries(self, data):
        """Install none."""
