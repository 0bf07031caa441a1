from django.apps import AppConfig


class PostsConfig(AppConfig):
    """The blog."""

    name = "posts"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        from . import progress, queues, signals  # noqa: F401  (connects their signals)
