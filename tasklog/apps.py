"""The Django app."""

from django.apps import AppConfig


class TasklogConfig(AppConfig):
    name = "tasklog"
    verbose_name = "Task log"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        from . import checks  # noqa: F401  (registers them)
