"""Calls in PostgreSQL: what the table costs, how fast it is emptied, what it saves the workers."""

import json
import signal
import statistics

import psutil

from tests.services import wait_for

from .results import statements
from .table import Row

SCHEDULED = 60_000
DUE = 10_000
WAITING = 1_000_000
ROUNDS = 3
SENT = 200  # a round

INSERT = """
    INSERT INTO tasklog_taskcall
        (task_id, name, args, kwargs, options, queue, ignore_result, submitted_at, eta)
    SELECT 'call-' || n, 'benchmarks.tasks.nothing', '[' || n || ']', '{}', '{"queue": "calls"}',
        'calls', false, now(), now() + interval '%s' + n * interval '1 millisecond'
    FROM generate_series(1, %s) AS n
"""


def rows(lab):
    """Return the rows of this module. Takes about four minutes."""
    stock = lab.side("stock", "stock")
    calls = lab.side("calls", "here", CALLS="1")
    calls.rows.execute("CREATE TABLE IF NOT EXISTS saved (n integer)")
    return [
        economy(lab, stock, calls),
        *transactions(lab, calls),
        dispatcher(lab, stock, calls),
        patience(lab, calls),
        memory(lab, calls),
    ]


def economy(lab, stock, calls):
    """Statements from the call to the stored result. The stock side does not track calls.

    Of ten calls more: what a process needs once, for its connection, is left out.
    """
    counts = [
        (statements(lab, side, "send", 11) - statements(lab, side, "send", 1)) / 10
        for side in (stock, calls)
    ]
    return Row("statements for a task with all of tasklog", *counts, at_most=4)


def transactions(lab, calls):
    """A row and a call in one transaction, against the same with `delay_on_commit`.

    Both on this side, in one process and in turn: the difference is the outbox, and nothing else.
    """
    calls.pause()
    pairs = [json.loads(calls.call("times_to_save_and_send", SENT)) for _ in range(ROUNDS)]
    lab.redis.client().delete(calls.name)
    calls.resume()
    plain, outbox = (statistics.median(times) for times in zip(*pairs, strict=True))
    pairs = [json.loads(calls.call("times_to_start", SENT)) for _ in range(ROUNDS)]
    soon, sooner = (statistics.median(times) for times in zip(*pairs, strict=True))
    return [
        Row("ms to save a row and send a task", plain, outbox, at_most=2 * plain),
        Row("ms from commit to start, idle worker", soon, sooner, at_most=1.5 * soon),
    ]


def dispatcher(lab, stock, calls):
    """One dispatcher, which sends what is due. On the stock side one process that calls `delay`."""
    calls.pause()
    stock.pause()
    plain, rates = [], []
    for _ in range(ROUNDS):
        plain.append(float(stock.call("rate_of_calls", DUE // 10)))
        lab.redis.client().delete(stock.name)
        fill(calls, DUE, "-1 hour")
        rates.append(float(calls.call("rate_of_dispatch")))
        sent = lab.redis.client().llen(calls.name)
        assert sent == DUE, f"{sent} were sent, not {DUE}"
        lab.redis.client().delete(calls.name)
    calls.resume()
    stock.resume()
    before, after = statistics.median(plain), statistics.median(rates)
    return Row("due calls a second, one dispatcher", before, after, at_least=1500)


def patience(lab, calls):
    """One pass of a dispatcher that finds nothing due."""
    fill(calls, WAITING, "1 day")
    time = float(calls.call("time_of_a_pass", 50))
    return Row(f"ms for a pass with {WAITING:,} calls waiting", None, time, at_most=20)


def fill(side, number, when):
    side.rows.execute("TRUNCATE tasklog_taskcall")
    side.rows.execute(INSERT % (when, number))
    side.rows.execute("VACUUM ANALYZE tasklog_taskcall")  # as autovacuum does within a minute


def memory(lab, calls):
    """All processes of a worker, before and after calls with an ETA in an hour."""
    # A worker of its own: what it holds would weigh on the other rows.
    stock = lab.side("scheduled", "stock")
    before = megabytes(stock)
    schedule(stock)
    client = lab.redis.client()
    wait_for(lambda: client.hlen("unacked") >= SCHEDULED, "the worker to hold all", 300)
    there = megabytes(stock) - before
    stock.worker.stop(signal.SIGKILL)  # else it would first put all of them back

    calls.rows.execute("TRUNCATE tasklog_taskcall")
    calls.call("dispatch_in_worker", 20)
    before = megabytes(calls)
    schedule(calls)
    calls.call("dispatch_in_worker", 20)
    here = megabytes(calls) - before
    return Row(f"MB of a worker for {SCHEDULED:,} scheduled calls", there, here, at_most=10)


def schedule(side):
    for _ in range(10):
        side.call("schedule", SCHEDULED // 10)


def megabytes(side):
    main = psutil.Process(side.worker.pid)
    family = [main, *main.children(recursive=True)]
    return sum(process.memory_info().rss for process in family) / 2**20
