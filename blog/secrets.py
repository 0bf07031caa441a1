"""What debug pages and Celery's reports hide beside what they hide by themselves.

Both go by names, and «URL» is none of those: CELERY_BROKER_URL would show the broker's password.
"""

import re

from celery.app import utils
from django.views.debug import SafeExceptionReporterFilter

PASSWORD = re.compile(r"(://[^:/@\s]*:)[^/\s]+(?=@)")

# For `celery report`, `celery inspect conf` and Flower's page of a worker. Celery hides what is in
# «broker_url»; but Django's settings, which it reports too, have other names.
utils.HIDDEN_SETTINGS = re.compile(f"{utils.HIDDEN_SETTINGS.pattern}|URL|LOCATION", re.IGNORECASE)


class ReporterFilter(SafeExceptionReporterFilter):
    """Hides the passwords in URLs on debug pages: settings, and variables of the process."""

    def cleanse_setting(self, key, value):
        cleansed = super().cleanse_setting(key, value)
        return PASSWORD.sub(r"\1**", cleansed) if isinstance(cleansed, str) else cleansed
