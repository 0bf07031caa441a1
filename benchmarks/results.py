"""Results in PostgreSQL: how many a second, how soon, and with how many statements."""

import statistics
import time

from tests.services import wait_for

from .table import Row

TABLE = "django_celery_results_taskresult"
ROUNDS = 5
TASKS = 3000  # a round; stock, which takes longer, a quarter of them
CHORD = 20  # members of its header


def rows(lab):
    """Return the rows of this module. Takes about four minutes."""
    stock = lab.side("stock", "stock")
    here = lab.side("here", "here")
    fast = lab.side("fast", "here", ASYNC_RESULTS="1")
    redis = lab.side("redis", "here", CELERY_RESULT_BACKEND=lab.redis.url(1))
    site = lab.side("site", "here", AS_IT_RUNS="1")
    return [
        *speed(lab, stock, here, fast, redis, site),
        *patience(stock, here),
        *economy(lab, stock, here),
    ]


def speed(lab, *sides):
    """Tasks that return at once: from a full queue to the last stored result. Rounds in turn."""
    rates = {side.name: [] for side in sides}
    for _ in range(ROUNDS):
        for side in sides:
            rates[side.name].append(rate(lab, side))
    stock, here, fast, redis, site = (statistics.median(rates[side.name]) for side in sides)
    return [
        Row("results a second, durable", stock, here, at_least=3.8 * stock),
        Row("the same with the site's workers, which reserve no task", stock, site),
        Row("results a second, not durable, against Redis", redis, fast, at_least=0.75 * redis),
    ]


def rate(lab, side):
    side.rows.execute(f"TRUNCATE {TABLE}")
    lab.redis.client(1).flushdb()
    side.pause()
    tasks = TASKS // 4 if side.name == "stock" else TASKS
    for _ in range(tasks):
        lab.broker.send_task("benchmarks.tasks.nothing", queue=side.name)
    began = time.perf_counter()
    side.resume()
    wait_for(lambda: finished(lab, side) >= tasks, f"the results of {side.name}", 120)
    return tasks / (time.perf_counter() - began)


def finished(lab, side):
    if side.name == "redis":
        return lab.redis.client(1).dbsize()
    query = f"SELECT count(*) FROM {TABLE} WHERE status = 'SUCCESS'"
    return side.rows.execute(query).fetchone()[0]


def patience(stock, here):
    """How long `delay().get()` takes where the worker is idle and the task returns at once."""
    before, after = (float(side.call("median_get", n)) for side, n in ((stock, 10), (here, 100)))
    return [Row("ms for delay().get(), median", before, after, at_most=10)]


def economy(lab, stock, here):
    """Statements from the call to the stored result, BEGIN and COMMIT too. Nobody waits for it.

    Tracked here: the call is written down before it is sent. Stock Celery has nothing like it.
    """
    # Ten more tasks of one process: its connection is opened for the first.
    task = [
        (statements(lab, side, "send", 11) - statements(lab, side, "send", 1)) / 10
        for side in (stock, here)
    ]
    chord = [statements(lab, side, "send_chord", CHORD) for side in (stock, here)]
    return [
        Row("statements for a tracked task, with STARTED", *task, at_most=4),
        Row(f"statements for a chord of {CHORD} such tasks", *chord, at_most=6 * CHORD + 10),
    ]


def statements(lab, side, function, number):
    tasks = number + (function == "send_chord")
    side.rows.execute(f"TRUNCATE {TABLE}")

    def work():
        side.call(function, number, TRACK="1")
        wait_for(lambda: finished(lab, side) == tasks, f"{function}({number})")
        side.pause()  # answers when the processes have said their last word
        side.resume()

    return lab.statements(side.name, work)
