"""What debug pages hide."""

import re

from django.views.debug import SafeExceptionReporterFilter

PASSWORD = re.compile(r"(://[^:/@\s]*:)[^/\s]+(?=@)")


class ReporterFilter(SafeExceptionReporterFilter):
    """Hides the passwords in URLs too, such as that in CELERY_BROKER_URL.

    Django goes by the names of settings and variables, and «URL» is none of those that it hides.
    """

    def cleanse_setting(self, key, value):
        cleansed = super().cleanse_setting(key, value)
        return PASSWORD.sub(r"\1**", cleansed) if isinstance(cleansed, str) else cleansed
