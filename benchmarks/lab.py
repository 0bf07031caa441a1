"""The servers and workers that are measured: each on a free port, in a folder of its own."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
from celery import Celery

from tests.services import Postgres, Process, Redis


class DurablePostgres(Postgres):
    """A commit waits for the disk, which it does not in the tests."""

    options = []


class Lab:
    """A Redis and a PostgreSQL for the time of a `with` block, and the sides that are compared."""

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self.folder.chmod(0o711)  # PostgreSQL, which does not run as root, has its folder in it
        self.redis = Redis(self.folder / "redis").start()
        self.postgres = DurablePostgres(self.folder / "postgres").start()
        self.broker = Celery("bench", broker=self.redis.url())
        self.sides = {}
        return self

    def __exit__(self, *error):
        for side in self.sides.values():
            side.stop()
        self.postgres.stop()
        self.redis.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def side(self, name, project, **env):
        """Return the side of a name. The first time, make its database and start its worker.

        Args:
            name (str): also the name of its database and of its queue.
            project (str): "stock" or "here".
            **env (str): environment variables.
        """
        if name not in self.sides:
            side = self.sides[name] = Side(self, name, project, env)
            side.start()
        return self.sides[name]

    def database(self, name="postgres"):
        """Connect to a database. What this connection does is not counted by `statements`."""
        address = self.database_url(name)
        return psycopg.connect(address, autocommit=True, application_name="bench")

    def database_url(self, name):
        return f"postgres://blog@127.0.0.1:{self.postgres.port}/{name}"

    def statements(self, name, work):
        """Count the statements that a database gets while ``work()`` runs, BEGIN and COMMIT too."""
        with self.database() as server:
            server.execute("ALTER SYSTEM SET log_line_prefix = '<%d %a> '")
            server.execute("ALTER SYSTEM SET log_statement = 'all'")
            server.execute("SELECT pg_reload_conf()")
            before = len(self.postgres.process.output)
            work()
            seen = self.postgres.process.output[before:].splitlines()
            server.execute("ALTER SYSTEM RESET log_statement")
            server.execute("SELECT pg_reload_conf()")
        logged = re.compile(rf"<{name} (?!bench).*> LOG:  (statement|execute)")
        return sum(bool(logged.match(line)) for line in seen)


class Side:
    """One way to run the same tasks: a database, a queue, and a worker of two processes."""

    def __init__(self, lab, name, project, env):
        self.lab, self.name = lab, name
        # This side's is what docker-compose.yml has. Stock Celery would not use it.
        address_options = {"stock": "", "here": "?prepare_threshold=1"}[project]
        self.app = f"benchmarks.{project}"
        with lab.database() as server:
            server.execute(f"CREATE DATABASE {name}")
        self.rows = lab.database(name)
        self.env = {
            "DJANGO_SETTINGS_MODULE": f"benchmarks.{project}_settings",
            "DATABASE_URL": lab.database_url(name) + address_options,
            "CELERY_BROKER_URL": lab.redis.url(),
            "CELERY_TASK_DEFAULT_QUEUE": name,
            "DEBUG": "true",
            "ENV_FILE": os.devnull,
            "STATE_DIR": str(lab.folder),
            **env,
        }
        self.worker = None

    def start(self):
        """Make the tables, and start the worker."""
        self.python("-m", "django", "migrate", "--verbosity", "0")
        command = ["celery", "-A", self.app, "worker", "-l", "WARNING", "-c", "2"]
        command += ["-n", f"{self.name}@%h", "--include", "benchmarks.tasks"]
        self.worker = Process(command, self.lab.folder / f"{self.name}.log", self.env)
        self.call("warm_up")

    def pause(self):
        """Have the worker take no further tasks."""
        self._control("cancel_consumer")

    def resume(self):
        """Have the worker take tasks again."""
        self._control("add_consumer")

    def _control(self, command):
        method = getattr(self.lab.broker.control, command)
        there = [f"{self.name}@{socket.gethostname()}"]
        if not method(self.name, destination=there, reply=True, timeout=10, limit=1):
            raise RuntimeError(f"The worker does not answer:\n{self.worker.output}")

    def stop(self):
        self.rows.close()
        if self.worker:
            self.worker.stop()

    def python(self, *arguments, **env):
        """Run Python with the settings of this side. Returns what it printed."""
        environment = {**os.environ, **self.env, **env}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{arguments}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def call(self, function, *arguments, **env):
        """Call a function of benchmarks/clients.py in a process with the settings of this side.

        Args:
            function (str): its name.
            *arguments (int | str): what it takes.
            **env (str): environment variables for this process alone.

        Returns:
            str: what it returned.
        """
        code = f"import {self.app}, django; django.setup(); from benchmarks import clients; "
        return self.python("-c", f"{code}print(clients.{function}(*{arguments!r}))", **env).strip()
