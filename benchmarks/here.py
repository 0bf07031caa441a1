"""This side's application: the site's."""

from blog.celery import app

__all__ = ["app"]
