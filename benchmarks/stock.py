"""The other side's application: `celery -A benchmarks.stock worker`."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.stock_settings")

app = Celery("stock")
app.config_from_object("django.conf:settings", namespace="CELERY")
