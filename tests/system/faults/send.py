"""What views do, a thousand times: save something, and have tasks do something about it.

`python -m tests.system.faults.send FIRST LAST [LIMIT COUNTDOWN HELD …]`. Even numbers are
acknowledged early, odd ones late. Those HELD do not end before the test lets them, and have LIMIT
seconds for it, or what settings.py says. Each ten are one transaction.

`python -m tests.system.faults.send '[[NAME, ARGUMENTS, OPTIONS], …]'` calls tasks by their names.
"""

import json
import sys
import time

import django
from celery import current_app
from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction


def save_and_call(numbers, limit, countdown, held):
    from .tasks import early, late

    with transaction.atomic(), connection.cursor() as cursor:
        for number in numbers:
            task = late if number % 2 else early
            options = {"countdown": countdown or None}
            if number in held and limit:
                options |= {"soft_time_limit": limit, "time_limit": limit}
            result = task.apply_async([number, number in held], **options)
            cursor.execute("INSERT INTO asked VALUES (%s, %s)", [number, result.id])


def send(first, last, limit=0, countdown=0, *held):
    """Send all. With the database away, a view would ask its visitor to come back: so does this."""
    for start in range(first, last, 10):
        while True:
            try:
                save_and_call(range(start, min(start + 10, last)), limit, countdown, held)
            except (OperationalError, InterfaceError):
                connection.close()
                time.sleep(0.2)
            except IntegrityError:
                break  # it was committed, and only the answer was lost
            else:
                break


if __name__ == "__main__":
    django.setup()
    if sys.argv[1].startswith("["):
        calls = json.loads(sys.argv[1])
        ids = [current_app.send_task(name, args, **options).id for name, args, options in calls]
        print(json.dumps(ids))
    else:
        send(*map(int, sys.argv[1:]))
