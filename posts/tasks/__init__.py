"""The site's tasks, one module a lesson. Celery finds them because they are imported here."""

from . import analysis, basics, export, feeds, newsletter, publishing, upkeep

__all__ = ["analysis", "basics", "export", "feeds", "newsletter", "publishing", "upkeep"]
