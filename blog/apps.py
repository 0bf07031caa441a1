from django.apps import AppConfig


class BlogConfig(AppConfig):
    """The project itself: installed so that its system checks are found."""

    name = "blog"

    def ready(self):
        from . import checks  # noqa: F401
