"""Pages of the admin that stay quick with millions of rows.

The admin's own list counts all rows, joins before it sorts, and reads every column. Here the keys
of a page come first, from one index, and then its rows. What no index finds is looked for among
the latest calls, and the page says so.
"""

from datetime import timedelta
from functools import cached_property

from celery import states
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import InvalidPage, Paginator
from django.db import connections
from django.db.models import Max, Min, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from django_celery_results.models import TaskResult

from .models import SCHEDULED, SCHEDULED_SENT, TaskCall

PAGED = 10_000  # rows: what can be leafed through. A database reads all pages before the asked one.
LATEST = 5_000  # calls, among which is looked for what no index finds
WAITING = {None, states.PENDING, SCHEDULED, SCHEDULED_SENT}  # no result row has them
FEW = 20_000  # rows that are sorted at once; of more than that the first are soon found


class CappedPaginator(Paginator):
    """Pages of keys, of which it counts no more than PAGED.

    ``total`` says how many there are: "12", "10,000+", or for a whole table "about 1,000,000", as
    the database's statistics have it.
    """

    def __init__(self, object_list, per_page, *, whole_table=False, **kwargs):
        super().__init__(object_list, per_page, **kwargs)
        self.whole_table = whole_table

    @cached_property
    def count(self):
        if isinstance(self.object_list, list):
            return len(self.object_list[:PAGED])
        if self.estimate > PAGED:
            return PAGED
        return self.object_list.order_by()[: PAGED + 1].count()

    @cached_property
    def estimate(self):
        """How many rows PostgreSQL believes to be in the table, or 0."""
        connection = connections[self.object_list.db]
        if not self.whole_table or connection.vendor != "postgresql":
            return 0
        with connection.cursor() as cursor:
            table = connection.ops.quote_name(self.object_list.model._meta.db_table)
            cursor.execute("SELECT reltuples FROM pg_class WHERE oid = %s::regclass", [table])
            return int(cursor.fetchone()[0])

    @property
    def num_pages(self):
        return max(1, -(-min(self.count, PAGED) // self.per_page))

    @property
    def total(self):
        if self.whole_table and self.estimate > PAGED:
            return f"about {self.estimate:,}"
        return f"{self.count:,}" if self.count <= PAGED else f"{PAGED:,}+"


class CappedChangeList(ChangeList):
    """A list whose rows come by their keys.

    ``note`` says where was not looked.
    """

    note = ""
    key = "pk"

    def get_keys(self):
        """Return the keys in the order of the list, as a QuerySet or a list.

        Whatever it is filtered by, `get_queryset` has done that.
        """
        return self.queryset.values_list("pk", flat=True)

    def get_rows(self):
        """Return the QuerySet from which the rows of a page are taken."""
        return self.root_queryset

    @property
    def filtered(self):
        return bool(self.query or self.get_filters_params())

    def get_results(self, request):
        paginator = CappedPaginator(
            self.get_keys(), self.list_per_page, whole_table=not self.filtered
        )
        try:
            keys = list(paginator.page(self.page_num).object_list)
        except InvalidPage:
            raise IncorrectLookupParameters from None
        rows = self.get_rows().filter(**{f"{self.key}__in": keys}).order_by()
        field = "task_id" if self.key == "task_id" else "pk"
        by_key = {getattr(row, field): row for row in rows}
        self.paginator, self.keys_of_page = paginator, len(keys)
        self.result_list = [by_key[key] for key in keys if key in by_key]
        self.result_count = min(paginator.count, PAGED)
        self.total = paginator.total
        self.multi_page = paginator.num_pages > 1
        self.can_show_all = self.show_full_result_count = False
        self.full_result_count = self.result_count  # so that it stands below the list alone
        self.show_admin_actions = True


def by_date(results):
    """Put filtered results into the order of `date_done`, the latest first.

    Few are sorted, by an expression that no index has: with that of `date_done` the database would
    look for them among all others, for long if they are old. Of many, it soon finds the first.
    """
    few = results.order_by()[: FEW + 1].count() <= FEW
    date_done = Coalesce("date_done", "date_done").desc() if few else "-date_done"
    return results.order_by(date_done, "-pk")


class CallList(CappedChangeList):
    """Calls, the latest first. Ended ones by when they ended, scheduled ones by their ETA."""

    def get_rows(self):
        return self.root_queryset.select_related("result").without_messages()

    def get_keys(self):
        calls = TaskCall.objects.using(self.root_queryset.db)
        chosen = {spec.parameter_name: spec.value() for spec in self.filter_specs}
        chosen = {name: value for name, value in chosen.items() if value}
        params = set(self.get_filters_params())
        if params - set(chosen):  # written into the address by hand
            return super().get_keys()
        names = self.model_admin.searched_names(self.query)
        if self.query and not names:
            return super().get_keys()  # one task id
        if chosen.get("name"):
            names = [chosen["name"]] if not names or chosen["name"] in names else []
            if not names:
                return []
        state, queue = chosen.get("state"), chosen.get("queue")
        if not names and not queue and state not in WAITING:
            return self.of_results(state)
        if not names and not queue and state == SCHEDULED:
            return calls.filter(sent_at=None, eta__isnull=False).order_by("eta", "pk").pks()
        latest = (calls.filter(name__in=names) if names else calls).order_by("-pk")
        return self.among(latest) if state or queue else latest.pks()

    def get_results(self, request):
        super().get_results(request)
        if left_out := self.keys_of_page - len(self.result_list):
            self.note += (
                f"{left_out} of this page were not written down when they were called (see TRACK). "
                f"They are among the task results alone."
            )

    def of_results(self, state):
        """Task ids of a state, the latest first. Some may have no call: see get_results."""
        self.key = "task_id"
        results = TaskResult.objects.using(self.root_queryset.db).filter(status=state)
        return by_date(results).values_list("task_id", flat=True)

    def among(self, latest):
        """Those of the filtered calls that are among the latest, and all that wait to be sent."""
        filtered = self.queryset.order_by()
        oldest = list(latest.values_list("pk", "submitted_at")[LATEST - 1 : LATEST])
        if not oldest:
            return sorted(filtered.pks(), reverse=True)
        ((floor, since),) = oldest
        self.note = (
            f"Looked for among the latest {LATEST:,} calls, which were made since "
            f"{timezone.localtime(since):%Y-%m-%d %H:%M}. The command find_stale_tasks finds older "
            f"ones that have not ended, retry_tasks --dry-run any other."
        )
        found = {*filtered.filter(pk__gte=floor).pks()}
        found |= {*filtered.filter(sent_at=None).order_by("-pk").pks()[:LATEST]}
        return sorted(found, reverse=True)


class ResultQuerySet(QuerySet):
    def datetimes(self, field_name, kind, order="ASC", tzinfo=None):
        """The years, months or days from the first to the last, for the admin's date hierarchy.

        Django's own has the database look at each row for those that occur.
        """
        first, last = (
            timezone.localtime(moment, tzinfo) if moment else None
            for moment in self.order_by().aggregate(a=Min(field_name), b=Max(field_name)).values()
        )
        found = []
        while first and first <= last:
            found.append(TRUNCATE[kind](first))
            first = NEXT[kind](found[-1])
        return found


MIDNIGHT = {"hour": 0, "minute": 0, "second": 0, "microsecond": 0}
TRUNCATE = {
    "year": lambda moment: moment.replace(month=1, day=1, **MIDNIGHT),
    "month": lambda moment: moment.replace(day=1, **MIDNIGHT),
    "day": lambda moment: moment.replace(**MIDNIGHT),
}
NEXT = {
    "year": lambda moment: moment.replace(year=moment.year + 1),
    "month": lambda moment: (moment + timedelta(days=32)).replace(day=1),
    "day": lambda moment: moment + timedelta(days=1),
}


class ResultList(CappedChangeList):
    """Results, the latest first."""

    def get_keys(self):
        results = by_date(self.queryset) if self.filtered else self.queryset
        return results.values_list("pk", flat=True)

    def get_rows(self):
        return self.root_queryset.defer("result", "traceback", "meta", "task_args", "task_kwargs")
