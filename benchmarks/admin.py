"""The admin with a million calls in PostgreSQL: how long its pages take."""

import statistics
import time

from .lab import Side
from .table import Row

CALLS = 1_000_000
SLOWEST = 100  # milliseconds
VISITS = 9  # of each page, after a first one; of those that take seconds a third

# All old, and so rare that a search from the latest on passes nearly all the others.
FAILURES, REVOKED = 9_990, 10

RESULTS = f"""
    INSERT INTO django_celery_results_taskresult
        (task_id, task_name, task_args, task_kwargs, status, worker, content_type,
         content_encoding, result, meta, date_created, date_started, date_done)
    SELECT md5(n::text)::uuid::text, 'shop.tasks.task' || n % 20, '"(' || n || ',)"', '"{{}}"',
        CASE WHEN n <= {REVOKED} THEN 'REVOKED' WHEN n <= {FAILURES + REVOKED} THEN 'FAILURE'
        ELSE 'SUCCESS' END, 'celery@worker' || n % 4, 'application/json', 'utf-8', '25',
        '{{"children": []}}', at, at, at
    FROM generate_series(1, {CALLS}) AS n, LATERAL (
        SELECT now() - ({CALLS} - n) * interval '0.6 s' AS at) AS moment
"""
TABLE_OF_CALLS = """
    INSERT INTO tasklog_taskcall
        (task_id, name, args, kwargs, options, queue, ignore_result, submitted_at, sent_at)
    SELECT task_id, task_name, '[25]', '{"key": "value"}', '{"queue": "celery"}', 'celery', false,
        date_created, date_created
    FROM django_celery_results_taskresult ORDER BY id
"""
ONE = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"  # the first task id

PAGES = [  # figure, query there, query here
    ("the list", "", ""),
    ("the search for an id", f"q={ONE}", f"q={ONE}"),
    ("the search for a task", "q=shop.tasks.task7", "q=shop.tasks.task7"),
    ("a state that 990,000 have", "status__exact=SUCCESS", "state=SUCCESS"),
    ("a state that 9,990 old ones have", "status__exact=FAILURE", "state=FAILURE"),
    ("a state that 10 have", "status__exact=REVOKED", "state=REVOKED"),
    ("a state that none has", "status__exact=STARTED", "state=STARTED"),
    ("what waits for a worker", "status__exact=PENDING", "state=PENDING"),
]


def rows(lab):
    """Return the rows of this module. Takes about four minutes."""
    settings = {"DJANGO_SETTINGS_MODULE": "benchmarks.stock_admin_settings"}
    stock = Side(lab, "stock_admin", "stock", settings)
    here = Side(lab, "here_admin", "here", {})
    try:
        for side in (stock, here):
            side.python("-m", "django", "migrate", "--verbosity", "0")
            side.rows.execute(RESULTS)
        here.rows.execute(TABLE_OF_CALLS)
        for side in (stock, here):
            side.rows.execute("VACUUM ANALYZE")
        there = "/admin/django_celery_results/taskresult/?"
        calls = "/admin/tasklog/taskcall/?"
        before = times(stock, [there + query for _, query, _ in PAGES], VISITS // 3)
        after = times(here, [calls + query for _, _, query in PAGES], VISITS)
        same = [there + query for query in ("", f"q={ONE}", "status=SUCCESS")]
        results = times(here, same, VISITS)
    finally:
        stock.stop()
        here.stop()
    figures = [f"ms for {figure}, 1,000,000 calls in the admin" for figure, _, _ in PAGES]
    found = [Row(*row, at_most=SLOWEST) for row in zip(figures, before, after, strict=True)]
    figures = ["the list", "the search for an id", "a state that 990,000 have"]
    stock_results = [before[0], before[1], before[3]]
    return found + [
        Row(f"ms for {figure}, 1,000,000 results in the admin", *row, at_most=SLOWEST)
        for figure, *row in zip(figures, stock_results, results, strict=True)
    ]


def times(side, pages, visits):
    """Return the median time of each page, in milliseconds."""
    code = f"import {side.app}, django; django.setup(); from benchmarks import admin; "
    return [
        float(side.python("-c", f"{code}print(admin.visit({page!r}, {visits}))")) for page in pages
    ]


def visit(page, visits):
    """Visit a page of the admin in this process. Returns its median time in milliseconds."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    settings.DEBUG, settings.ALLOWED_HOSTS = False, ["testserver"]
    user = User.objects.get_or_create(username="root", is_staff=True, is_superuser=True)[0]
    client = Client()
    client.force_login(user)
    took = []
    for _ in range(1 + visits):
        began = time.perf_counter()
        answer = client.get(page)
        took.append(time.perf_counter() - began)
        if answer.status_code != 200:
            raise RuntimeError(f"{page} answers {answer.status_code}")
    return statistics.median(took[1:]) * 1000
