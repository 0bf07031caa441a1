"""The site's tasks, one module a lesson. Celery finds them because they are imported here."""

from . import analysis, basics, export, newsletter, publishing, upkeep

__all__ = ["analysis", "basics", "export", "newsletter", "publishing", "upkeep"]
