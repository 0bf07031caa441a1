"""The site's tasks, one module a lesson. Celery finds them because they are imported here."""

from . import (
    analysis,
    basics,
    export,
    failures,
    feeds,
    images,
    newsletter,
    publishing,
    upkeep,
    workflow,
)

__all__ = [
    "analysis",
    "basics",
    "export",
    "failures",
    "feeds",
    "images",
    "newsletter",
    "publishing",
    "upkeep",
    "workflow",
]
