"""Lists in the admin that stay quick with millions of rows.

The admin's own counts all rows, joins before it sorts, and reads every column. Here come first
the keys of all pages, from one index, then the rows of one page. What no index finds is looked for
among the latest calls.
"""

from datetime import timedelta

from celery import states
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import InvalidPage, Paginator
from django.db import connections
from django.db.models import Max, Min, QuerySet
from django.utils import timezone
from django_celery_results.models import TaskResult

from .models import LARGE, SCHEDULED, SCHEDULED_SENT

PAGED = 10_000  # rows that can be leafed through
LATEST = 5_000  # calls that are searched without an index
WAITING = (states.PENDING, SCHEDULED, SCHEDULED_SENT)  # states without a result


class ResultList(ChangeList):
    """A list of at most PAGED rows."""

    key = "pk"
    note = ""  # says where was not looked

    def get_keys(self):
        """Return the keys (QuerySet | list) in the order of the list."""
        return self.queryset.values_list("pk", flat=True)

    def get_rows(self):
        return self.root_queryset.defer(*LARGE)

    def get_results(self, request):
        keys = list(self.get_keys()[: PAGED + 1])
        self.paginator = Paginator(keys[:PAGED], self.list_per_page)
        try:
            page = self.paginator.page(self.page_num).object_list
        except InvalidPage:
            raise IncorrectLookupParameters from None
        rows = self.get_rows().filter(**{f"{self.key}__in": page}).order_by()
        rows = {getattr(row, self.key): row for row in rows}
        self.result_list = [rows[key] for key in page if key in rows]
        self.left_out = len(page) - len(self.result_list)
        # The same, so that only the one below the list is shown.
        self.result_count = self.full_result_count = self.paginator.count
        self.total = f"{self.result_count:,}"
        if len(keys) > PAGED:
            filtered = self.query or self.get_filters_params()
            number = 0 if filtered else estimate(self.root_queryset)
            self.total = f"about {number:,}" if number > PAGED else f"{PAGED:,}+"
        self.multi_page = self.paginator.num_pages > 1
        self.can_show_all = self.show_full_result_count = False
        self.show_admin_actions = True


class ResultQuerySet(QuerySet):
    def datetimes(self, field_name, kind, order="ASC", tzinfo=None):
        """Return all dates from the first to the last. Django's own reads each row."""
        ends = self.order_by().aggregate(first=Min(field_name), last=Max(field_name)).values()
        if None in ends:
            return []
        first, last = (timezone.localdate(end, tzinfo) for end in ends)
        days = (first + timedelta(days=n) for n in range((last - first).days + 1))
        return list(dict.fromkeys(day.replace(**FIRST[kind]) for day in days))


FIRST = {"year": {"month": 1, "day": 1}, "month": {"day": 1}, "day": {}}


def estimate(rows):
    """Return how many rows PostgreSQL believes the table of a QuerySet to have, elsewhere 0."""
    connection = connections[rows.db]
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        table = connection.ops.quote_name(rows.model._meta.db_table)
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [table])
        return int(cursor.fetchone()[0])


class CallList(ResultList):
    """Calls, the latest first. Ended ones by when they ended, scheduled ones by their ETA."""

    def get_rows(self):
        return self.root_queryset.select_related("result").without_messages()

    def get_keys(self):
        chosen = self.get_filters_params(self.params)
        chosen = {name: value for name, value in chosen.items() if value}
        if not self.query and set(chosen) == {"state"}:
            state = chosen["state"]
            if state not in WAITING:
                self.key = "task_id"
                results = TaskResult.objects.using(self.root_queryset.db).filter(status=state)
                return results.order_by("-date_done", "-pk").values_list("task_id", flat=True)
            if state == SCHEDULED:
                return super().get_keys().filter(sent_at=None).order_by("eta", "pk")
        if {"state", "queue"} & set(chosen):
            return self.among_latest(chosen.get("name"))
        return super().get_keys()

    def get_results(self, request):
        super().get_results(request)
        if self.left_out:
            self.note = (
                f"{self.left_out} of this page were not written down when called: see the "
                f"task results."
            )

    def among_latest(self, name):
        """Return the keys of those among the latest, and of those that wait to be sent."""
        latest = self.root_queryset.filter(name=name) if name else self.root_queryset
        latest = self.model_admin.get_search_results(None, latest, self.query)[0].order_by("-pk")
        last = latest.values_list("pk", "submitted_at")[LATEST - 1 : LATEST].first()
        found = super().get_keys().order_by()
        if last is None:
            return sorted(found, reverse=True)
        self.note = (
            f"Looked for among the latest {LATEST:,} calls, made since "
            f"{timezone.localtime(last[1]):%Y-%m-%d %H:%M}. Older ones are found by "
            f"find_stale_tasks and retry_tasks --dry-run."
        )
        waiting = found.filter(sent_at=None).order_by("-pk")[:LATEST]
        return sorted({*found.filter(pk__gte=last[0]), *waiting}, reverse=True)
