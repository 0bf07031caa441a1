"""Programs that the tests start: `python -m tests.tasklog.programs NAME …`.

Each is a function. Its arguments come from the command line; what it returns is printed as JSON.
"""

import json
import os
import random
import signal
import sys
import time
import traceback

import django
from celery import current_app
from django.db import connection, connections, transaction

from tests.services import wait_for


def fork(work):
    """Run ``work()`` in a process of its own, which is as good as new. Returns its process id.

    Forked, because a start of Django costs a second and these tests need many.
    """
    connections.close_all()
    if process := os.fork():
        return process
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def died_of(process):
    """Wait for a process, and return the signal that ended it, or 0."""
    _process, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit(f"A process failed with status {os.WEXITSTATUS(status)}.")
    return os.WTERMSIG(status)


def save_and_call(*numbers):
    """What a view does: save something, and have tasks do something about it."""
    from .tasks import effect, note

    with transaction.atomic():
        for number in numbers:
            note("asked", number)
            effect.delay(number)


# --- Calls ----------------------------------------------------------------------------------------


def call(first, last):
    """Save and call for each number, some of them in each transaction."""
    for number in range(int(first), int(last), 5):
        save_and_call(*range(number, number + 5))


def resend_stale(seconds):
    """Send what has been silent for so long once more. Returns how many."""
    from datetime import timedelta

    from tasklog.models import TaskCall

    return len([call.resend() for call in TaskCall.objects.stale(timedelta(seconds=int(seconds)))])


def two_databases():
    """Make calls in transactions of both databases, and dispatch. Returns where their rows were."""
    from django.core.management import call_command

    from blog.celery import square
    from tasklog.dispatcher import send_due_calls
    from tasklog.models import TaskCall

    call_command("migrate", database="other", verbosity=0)
    ids = {}
    ids["no transaction"] = square.delay(1).id
    with transaction.atomic():
        ids["default"] = square.delay(2).id
    with transaction.atomic(using="other"):
        ids["other"] = square.delay(3).id
    with transaction.atomic(using="other"):
        ids["rolled back"] = square.delay(4).id
        transaction.set_rollback(True, using="other")
    with transaction.atomic(), transaction.atomic(using="other"):
        ids["both"] = square.delay(5).id
    with transaction.atomic(using="other"):
        ids["scheduled"] = square.apply_async([6], countdown=0.2).id
    wait_for(send_due_calls, "the scheduled call to be sent")
    found = {}
    for name, task_id in ids.items():
        calls = {alias: TaskCall.objects.using(alias) for alias in ("default", "other")}
        places = [a for a, rows in calls.items() if rows.filter(task_id=task_id).exists()]
        unsent = [a for a, rows in calls.items() if rows.filter(task_id=task_id, sent_at=None)]
        found[name] = [task_id, places, unsent]
    return found


def result_elsewhere():
    """Make a call in the other database, and ask there what came of it."""
    from datetime import timedelta

    from django.core.management import call_command
    from django_celery_results.models import TaskResult

    from blog.celery import square
    from tasklog.cleanup import clean_up_calls
    from tasklog.models import TaskCall

    call_command("migrate", database="other", verbosity=0)
    calls = TaskCall.objects.using("other")
    results = [square.delay(3)]
    for _ in range(2):
        with transaction.atomic(using="other"):
            results.append(square.delay(3))
    values = {result.get(timeout=30) for result in results}
    _here, there, forgotten = results
    status = calls.get(task_id=there.id).status
    forgotten.forget()
    return {
        "result": values.pop(),
        "status": status,
        "stale": calls.stale(timedelta()).count(),
        "cleaned up": clean_up_calls(timedelta()) - 1,  # the first one's
        "left": [calls.count(), TaskResult.objects.using("other").count()],
        "forgotten": forgotten.state,
    }


# --- Processes that are killed --------------------------------------------------------------------


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_before_commit():
    connection.commit = die


def die_before_publish():
    current_app.send_call = lambda *args, **kwargs: die()


def die_after_publish():
    """The broker has the message, and its answer did not arrive any more."""
    from kombu.transport.redis import Channel

    put = Channel._put

    def put_and_die(*args, **kwargs):
        put(*args, **kwargs)
        die()

    Channel._put = put_and_die


def die_before_mark():
    """The answer has arrived; the table says nothing of it yet."""
    from tasklog.models import TaskCall

    TaskCall.mark_sent = lambda *args: die()


OTHERS = [die_before_commit, die_after_publish, die_before_mark, None]  # None: at a random moment


def killed(rounds):
    """Kill one process after the other while it saves and calls. Returns the points and numbers.

    So often between commit and publish, and a fifth as often at each of the other points.
    """
    done = []
    points = [die_before_publish] * int(rounds) + OTHERS * (int(rounds) // 5)
    for turn, point in enumerate(points):
        first = turn * 1000

        def work(first=first, point=point):
            save_and_call(first)
            if point:
                point()
            for number in range(first + 1, first + 1000):
                save_and_call(number)

        process = fork(work)
        if not point:
            time.sleep(random.uniform(0.02, 0.1))  # the moment is what is random here
            os.kill(process, signal.SIGKILL)
        if died_of(process) != signal.SIGKILL:
            raise SystemExit(f"Round {turn} was not killed.")
        done.append([point.__name__ if point else "at random", first])
    return done


# --- Dispatchers ----------------------------------------------------------------------------------


def dispatchers(number, calls):
    """Have a number of dispatchers send as many due calls. Returns how many each has sent."""
    from datetime import timedelta

    from django.utils import timezone

    from tasklog.dispatcher import send_due_calls
    from tasklog.models import TaskCall

    due = timezone.now() - timedelta(seconds=1)
    TaskCall.objects.bulk_create(
        (
            TaskCall(task_id=f"due-{n}", name="blog.celery.square", args=[n], kwargs={}, eta=due)
            for n in range(int(calls))
        ),
        batch_size=1000,
    )
    reader, writer = os.pipe()

    def work():
        os.write(writer, f"{send_due_calls()}\n".encode())

    processes = [fork(work) for _ in range(int(number))]
    for process in processes:
        died_of(process)
    os.close(writer)
    with open(reader) as counts:
        return [int(line) for line in counts]


def killed_dispatcher():
    """Have a dispatcher die between its claim and the first message."""
    from tasklog.dispatcher import send_due_calls

    def work():
        die_before_publish()
        send_due_calls()

    if died_of(fork(work)) != signal.SIGKILL:
        raise SystemExit("It was not killed.")


if __name__ == "__main__":
    django.setup()
    name, *arguments = sys.argv[1:]
    print(json.dumps(globals()[name](*arguments)))
