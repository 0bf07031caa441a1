"""The Django app."""

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured


class TasklogConfig(AppConfig):
    name = "tasklog"
    verbose_name = "Task log"
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self):
        if not self.apps.is_installed("django_celery_results"):
            raise ImproperlyConfigured(
                "tasklog keeps its results in the table of django-celery-results: add "
                '"django_celery_results" to INSTALLED_APPS.'
            )
        super().import_models()

    def ready(self):
        from . import checks  # noqa: F401  (registers them)
