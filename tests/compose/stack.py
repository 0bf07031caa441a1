"""A Compose project of a test's own: name, ports, volumes and copy of the code, removed after."""

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.services import ROOT, Visitor, copy_site, find_program, free_port, wait_for

# The values of docker-compose.production.yml, for tests.
PRODUCTION = {
    "SECRET_KEY": "x9" * 15 + "a-key-only-for-this-test-0123456789",
    "ALLOWED_HOSTS": "blog.example.org,127.0.0.1",
    "POSTGRES_PASSWORD": "db4tests",
    "BROKER_PASSWORD": "broker4tests",
    "FLOWER_BASIC_AUTH": "operator:flower4tests",
}
# Of the processes that are the site's own.
APP = ("web", "worker", "beat", "flower")


def find_docker():
    """Return the path of `docker`. Raises LookupError: it is missing, or no engine answers."""
    docker = find_program("docker", "install Docker with Compose")
    answer = subprocess.run([docker, "compose", "ls"], capture_output=True, text=True)
    if answer.returncode:
        raise LookupError(f"no Docker engine with Compose answers: {answer.stderr.strip()}")
    return docker


def clean_environment(**env):
    """The variables of this process without those that Compose files or settings read."""
    docker = [name for name in os.environ if name.startswith("DOCKER_")]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", *docker) if name in os.environ}
    return {**kept, **env}


def compose(*arguments, files=("docker-compose.yml",), folder=ROOT, check=True, **env):
    """Run `docker compose` without any .env. Returns the CompletedProcess.

    Args:
        *arguments (str): command and options, as in ``compose("config", "--quiet")``.
        files (Iterable[str]): the Compose files, relative to the folder.
        folder (Path): the project's code.
        check (bool): fail the test where the command fails.
        **env (str): the variables of the command, besides PATH and HOME.
    """
    command = ["docker", "compose", "--env-file", os.devnull, "--ansi", "never"]
    for file in files:
        command += ["-f", file]
    command += map(str, arguments)
    env = clean_environment(**env)
    result = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert not check or result.returncode == 0, f"{' '.join(command)}\n{result.stderr[-3000:]}"
    return result


def wait_slowly(condition, what, seconds=60):
    """wait_for, three times a second: what is asked here starts a process each time."""

    def look():
        value = condition()
        if not value:
            time.sleep(0.3)
        return value

    return wait_for(look, what, seconds)


class Stack:
    """The site in containers.

    Args:
        files (Iterable[str]): the Compose files.
        **env (str): variables for them.
    """

    def __init__(self, *files, **env):
        self.docker = find_docker()
        self.name = f"blogtest{random.randrange(10**8):08}"
        self.files = list(files)
        self.folder = Path(tempfile.mkdtemp(prefix="blog-")) / "site"
        copy_site(self.folder)
        self.port, self.flower_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            "COMPOSE_PROJECT_NAME": self.name,
            "PORT": str(self.port),
            "FLOWER_PORT": str(self.flower_port),
            **env,
        }

    def __call__(self, *arguments, check=True, **env):
        """Run `docker compose` for this project: ``stack("restart", "redis")``."""
        return compose(
            *arguments,
            files=self.files,
            folder=self.folder,
            check=check,
            **{**self.env, **env},
        )

    def up(self, *options):
        """Start what does not run, and wait until all of it is healthy."""
        try:
            return self("up", "--detach", "--wait", "--wait-timeout", "180", *options)
        except AssertionError as error:
            logs = self("logs", "--no-color", "--tail", "5", check=False).stdout
            raise AssertionError(f"{error}\n{logs}") from None

    def down(self):
        """Remove all of it: containers, network, volumes, the images that it built, the copy."""
        self("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")
        for image in ("app", "test"):
            self.run("image", "rm", f"{self.name}-{image}", check=False)
        shutil.rmtree(self.folder.parent)

    def run(self, *arguments, check=True):
        """Run `docker` itself. Returns what it prints."""
        command = [self.docker, *map(str, arguments)]
        return subprocess.run(command, check=check, capture_output=True, text=True).stdout

    def exec(self, service, *command, check=True):
        """Run a command in a service's container. Returns what it prints."""
        return self("exec", "-T", service, *command, check=check).stdout

    def signal(self, service, name, text, check=True):
        """Send a signal to each process in a container whose command holds a text.

        The image has no pkill. Where the container ends at that, so does this: ``check=False``.
        """
        code = (
            "import os, pathlib, signal\n"
            "for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
            "    pid, command = int(path.parent.name), path.read_bytes().decode()\n"
            f"    if {text!r} in command and pid not in (1, os.getpid()):\n"
            f"        os.kill(pid, signal.SIG{name})"
        )
        self.exec(service, "python", "-c", code, check=check)

    def containers(self, service):
        """The ids of a service's containers, running or not."""
        return self("ps", "--all", "--quiet", service).stdout.split()

    def inspect(self, container, path):
        """One value of `docker inspect`: ``inspect(container, ".State.Running")``."""
        return json.loads(self.run("inspect", "--format", f"{{{{json {path}}}}}", container))

    def health(self):
        """Each container's service with its health: ``{("web", "healthy"), …}``."""
        listed = self("ps", "--format", "{{.Service}} {{.Health}}").stdout
        return {tuple(line.split()) for line in listed.splitlines()}

    def visitor(self):
        """Somebody who is signed in with the demo account."""
        visitor = Visitor(self.url)
        visitor.sign_in("demo", "demo")
        return visitor

    def sql(self, query):
        """Ask PostgreSQL. Returns the rows, each a list of strings."""
        options = ["--no-align", "--tuples-only", "--field-separator", "\t"]
        printed = self.exec("db", "psql", "-U", "blog", *options, "-c", query)
        return [line.split("\t") for line in printed.splitlines() if line]

    def send(self, calls, service="web"):
        """Send tasks. Returns their ids.

        Args:
            calls (str): a Python expression that gives AsyncResults, in which the tasks of
                posts.tasks are known: ``"[add.delay(1, 2)]"``.
            service (str): the container from which to send.
        """
        code = (
            "from posts.tasks.basics import *; from posts.tasks.export import *;"
            f"print('sent', *[result.id for result in {calls}])"
        )
        printed = self.exec(service, "python", "manage.py", "shell", "-v0", "-c", code)
        line = next(line for line in printed.splitlines() if line.startswith("sent "))
        return line.split()[1:]

    def states(self, ids):
        """How tasks are: ``{"SUCCESS": 3, …}``. A task without a row, which waits, is PENDING."""
        listed = ",".join(f"'{id}'" for id in ids)
        rows = self.sql(
            "SELECT status, count(*) FROM django_celery_results_taskresult"
            f" WHERE task_id IN ({listed}) GROUP BY status"
        )
        states = {status: int(count) for status, count in rows}
        if waiting := len(ids) - sum(states.values()):
            states["PENDING"] = waiting
        return states

    def wait_for_states(self, ids, seconds=60, **states):
        """Wait until tasks are like this: ``wait_for_states(ids, SUCCESS=3)``."""
        wait_slowly(
            lambda: self.states(ids) == states,
            lambda: f"{states}; there are {self.states(ids)}",
            seconds,
        )

    def workers_of(self, ids):
        """How many of these tasks each worker has done: ``{"celery@…": 3}``."""
        listed = ",".join(f"'{id}'" for id in ids)
        rows = self.sql(
            "SELECT worker, count(*) FROM django_celery_results_taskresult"
            f" WHERE task_id IN ({listed}) GROUP BY worker"
        )
        return {worker: int(count) for worker, count in rows}
