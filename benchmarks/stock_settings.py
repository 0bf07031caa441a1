"""The other side: what django-celery-results' documentation asks for, and no more."""

import os

from environs import Env

SECRET_KEY = "benchmark"
INSTALLED_APPS = ["django_celery_results"]
DATABASES = {"default": Env().dj_db_url("DATABASE_URL")}
USE_TZ = True

CELERY_BROKER_URL = os.environ["CELERY_BROKER_URL"]
CELERY_TASK_DEFAULT_QUEUE = os.environ["CELERY_TASK_DEFAULT_QUEUE"]
CELERY_RESULT_BACKEND = os.environ.get("CELERY_RESULT_BACKEND", "django-db")
CELERY_RESULT_EXTENDED = True
CELERY_TASK_TRACK_STARTED = True
