"""The site's settings for processes that tests start, with what the environment changes of them."""

import json
import os
from pathlib import Path

from blog.settings import *  # noqa: F403
from blog.settings import DATABASES, TASKLOG

# TASKLOG_CHANGES='{"SEND_EVERY": 1}'
TASKLOG = {**TASKLOG, **json.loads(os.environ.get("TASKLOG_CHANGES", "{}"))}

# Many write at once here, on a busy machine, and SQLite lets whoever is lucky go first.
if "timeout" in DATABASES["default"].get("OPTIONS", {}):
    DATABASES["default"]["OPTIONS"]["timeout"] = 120  # seconds

# A second database: the path of an SQLite file.
if "OTHER_DATABASE" in os.environ:
    options = DATABASES["default"].get("OPTIONS", {})
    path = Path(os.environ["OTHER_DATABASE"])
    DATABASES["other"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": options}
    TASKLOG["DATABASES"] = ["other"]
