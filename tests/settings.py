"""The site's settings for tests: a folder, a database and a broker of their own for each process.

Set before blog.settings is imported, so neither `.env` nor a site that runs beside the tests
changes anything.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from .services import Redis, SharedRedis

STATE = Path(tempfile.mkdtemp(prefix="blog-tests-"))
atexit.register(shutil.rmtree, STATE, ignore_errors=True)
(STATE / "static").mkdir()  # WhiteNoise warns where it is missing

# The broker: a server that the tests start, or with TEST_REDIS_URL=redis://… one that runs already,
# of which each test process takes three databases.
if url := os.environ.get("TEST_REDIS_URL"):
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    BROKER = SharedRedis(url, 3 * number)
else:
    BROKER = Redis(STATE / "redis")

for name in (
    "CELERY_RESULT_BACKEND",
    "CELERY_CACHE_BACKEND",
    "CACHE_URL",
    "EMAIL_URL",
    "EXPORT_KEEP_DAYS",
    "FEED_ALLOW_PRIVATE",
    "HTTPS",
    "METRICS_TOKEN",
    "SECRET_KEY",
    "SITE_URL",
):
    os.environ.pop(name, None)
os.environ |= {
    "ENV_FILE": os.devnull,
    "STATE_DIR": str(STATE),
    "DEBUG": "true",
    # Another database than SQLite for the whole suite: TEST_DATABASE_URL=postgres://…
    "DATABASE_URL": os.environ.get("TEST_DATABASE_URL", f"sqlite:///{STATE / 'db.sqlite3'}"),
    "CELERY_BROKER_URL": BROKER.url(),
    "EXPORT_SECONDS": "3",
}

from blog.settings import *  # noqa: E402, F403
from blog.settings import DATABASES  # noqa: E402

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file: the workers that tests start open it too.
    DATABASES["default"]["TEST"] = {"NAME": str(STATE / "test.sqlite3")}

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher",  # fast
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",  # what the site knows
]
