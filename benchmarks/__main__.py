"""Measure both sides and print one table: `make bench`, or `python -m benchmarks results`.

Each module of MODULES has a function ``rows(lab)`` that returns table.Row objects. Run it on a
machine that does nothing else; ratios of one run tell more than its absolute figures.
"""

import os
import platform
import signal
import sys
from importlib import import_module
from importlib.metadata import version

from . import table
from .lab import Lab

MODULES = ["results", "calls", "admin", "backends"]
PACKAGES = ["celery", "kombu", "Django", "django-celery-results", "psycopg", "redis"]


def main(names):
    unknown = set(names) - set(MODULES)
    if unknown:
        sys.exit(f"There is no benchmark {', '.join(unknown)}: there are {', '.join(MODULES)}.")
    signal.signal(signal.SIGTERM, lambda *args: sys.exit(1))  # the servers end with it
    rows = []
    with Lab() as lab:
        print(describe(lab), flush=True)
        for name in names or MODULES:
            rows += import_module(f".{name}", __package__).rows(lab)
    print(table.text(rows))
    return all(row.passed for row in rows)


def describe(lab):
    """What was measured on."""
    with lab.database() as database:
        postgres = database.execute("SHOW server_version").fetchone()[0].split()[0]
    versions = [f"Python {platform.python_version()}", f"PostgreSQL {postgres}"]
    versions.append(f"Redis {lab.redis.client().info('server')['redis_version']}")
    versions += [f"{name} {version(name)}" for name in PACKAGES]
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {', '.join(versions)}\n"


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
