"""Real servers and processes for tests: each on a free port, in a folder of its own, ended after.

Nothing here needs Django.
"""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import psutil
import redis

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
# "*.pyc.*": what a process that compiles a module at this moment writes first.
NOT_COPIED = (".git", ".venv", ".env", "var", ".pytest_cache", ".ruff_cache", "*.pyc.*")
CHROMIUM_OPTIONS = [
    "--no-sandbox",  # CI runs as root, where Chromium's sandbox cannot work
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
]


def free_port():
    """Return a TCP port that nobody listens on.

    Below the range from which the kernel gives ports to clients: one of those could take the port
    while a test has its server stopped. By chance of the system's: pytest-randomly gives all its
    processes the same seed, and so would the same ports be tried at the same moment.
    """
    while True:
        port = random.SystemRandom().randint(20000, 32000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def wait_for(condition, what, seconds=30):
    """Call ``condition`` until it returns something true, and return that.

    Args:
        condition (Callable): asked again and again.
        what (str | Callable[[], str]): what is awaited, for the message.
        seconds (float): the deadline.

    Raises:
        AssertionError: the deadline has passed.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {seconds} s for {what() if callable(what) else what}")
        time.sleep(0.05)
    return value


def find_program(name, install, places=()):
    """Return the path of a program.

    Args:
        name (str): the program.
        install (str): the command that installs it, for the message.
        places (Iterable[Path]): folders to look in before PATH.

    Raises:
        LookupError: it is not there.
    """
    path = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ["PATH"]]))
    if not path:
        raise LookupError(f"{name} is not installed: {install}")
    return path


def find_chromium():
    """Return the path of the system's Chromium or Chrome. Raises LookupError like the above."""
    try:
        return find_program("google-chrome", "")
    except LookupError:
        return find_program("chromium", "apt-get install chromium")


def copy_site(destination):
    """Copy the project without what it has written, but with its compiled modules.

    Args:
        destination (Path): a folder that does not exist yet.
    """
    shutil.copytree(ROOT, destination, ignore=shutil.ignore_patterns(*NOT_COPIED))
    (destination / "var" / "log").mkdir(parents=True)


def port_answers(port):
    """Whether something accepts connections on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A program in a session of its own, its output in a file.

    Args:
        command (list[str]): program and arguments.
        log (Path): where stdout and stderr go, appended.
        env (dict): variables added to those of this process; None takes one away.
        cwd (Path): working directory.
    """

    def __init__(self, command, log, env=None, cwd=ROOT):
        self.command, self.log = [str(part) for part in command], Path(log)
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "blog.settings", **(env or {})}
        environment = {name: value for name, value in environment.items() if value is not None}
        environment["PATH"] = f"{BIN}{os.pathsep}{environment['PATH']}"
        with open(self.log, "a") as output:
            self.popen = subprocess.Popen(
                self.command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.popen.pid

    @property
    def output(self):
        return self.log.read_text(errors="replace")

    @property
    def running(self):
        return self.popen.poll() is None

    def wait_for_output(self, text, seconds=30, count=1):
        """Wait until ``text`` stands in the output ``count`` times."""

        def seen():
            running = self.running  # asked first: what it prints at its end counts, too
            if self.output.count(text) >= count:
                return True
            assert running, f"{self} has ended before it said {text!r}:\n{self.output}"

        wait_for(seen, lambda: f"{text!r} from {self}:\n{self.output}", seconds)
        return self

    def wait(self, seconds=30):
        """Wait until the program has ended. Returns its exit status."""
        return self.popen.wait(seconds)

    def family(self):
        """The process and all it has started, as psutil.Process objects."""
        try:
            process = psutil.Process(self.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def stop(self, signum=signal.SIGTERM, seconds=30):
        """End the program and wait for it; what is still there after the deadline is killed."""
        family = self.family()
        if self.running:
            self.popen.send_signal(signum)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self} did not end in {seconds} s:\n{self.output}") from None
        finally:
            for process in family:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            self.popen.wait()

    def __str__(self):
        return " ".join(self.command)


class Redis:
    """A Redis server that keeps its data over restarts (append-only file)."""

    def __init__(self, folder, port=None):
        self.folder, self.port = Path(folder), port or free_port()
        self.process = None

    def url(self, db=0):
        """The address of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{db}"

    def start(self):
        """Start it, with the data of the last time. Raises LookupError: it is not installed."""
        program = find_program("redis-server", "apt-get install redis-server", [BIN])
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [program, "--bind", "127.0.0.1", "--port", self.port, "--dir", self.folder]
        command += ["--appendonly", "yes", "--save", "", "--databases", "16"]
        self.process = Process(command, self.folder / "redis.log")
        wait_for(lambda: port_answers(self.port), f"Redis on port {self.port}")
        return self

    def stop(self, signum=signal.SIGTERM):
        self.process.stop(signum)

    def kill(self):
        self.stop(signal.SIGKILL)

    def client(self, db=0):
        return redis.Redis.from_url(self.url(db))


class SharedRedis:
    """A Redis that runs already, such as a service container: three databases of it.

    Args:
        url (str): its address, without a database.
        first (int): the number of the first database.
    """

    def __init__(self, url, first):
        self.address, self.first = url, first

    def url(self, db=0):
        return f"{self.address}/{self.first + db}"

    def client(self, db=0):
        return redis.Redis.from_url(self.url(db))

    def start(self):
        self.client().ping()
        return self

    def stop(self):
        for db in range(3):
            self.client(db).flushdb()


class Postgres:
    """A PostgreSQL cluster of its own. As root it runs as the user `postgres` (or `nobody`)."""

    options = ["-F"]  # no fsync: what a test writes need not survive the machine

    def __init__(self, folder):
        self.folder, self.port = Path(folder), free_port()
        places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        self.initdb = find_program("initdb", "apt-get install postgresql", places)
        self.program = Path(self.initdb).with_name("postgres")
        self.user = []
        self.folder.mkdir(parents=True)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self.user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
            self.user.append("--clear-groups")
        initdb = [*self.user, self.initdb, "-D", self.folder / "data", "-U", "blog", "-A", "trust"]
        subprocess.run([*initdb, "--no-sync"], check=True, capture_output=True, cwd="/")
        self.process = None

    @property
    def url(self):
        return f"postgres://blog@127.0.0.1:{self.port}/postgres"

    def start(self):
        command = [*self.user, self.program, "-D", self.folder / "data", "-p", self.port]
        command += ["-h", "127.0.0.1", "-k", self.folder, *self.options]
        log = self.folder.parent / f"{self.folder.name}.log"
        self.process = Process(command, log, cwd="/")
        self.process.wait_for_output("ready to accept connections", count=self.starts + 1)
        self.starts += 1
        return self

    starts = 0

    def stop(self, signum=signal.SIGINT):
        """SIGINT is PostgreSQL's fast shutdown: open connections are cut."""
        self.process.stop(signum)


class Visitor:
    """Somebody at a browser without scripts: keeps cookies, fills in the forms' CSRF token."""

    def __init__(self, url):
        self.url = url
        self.cookies = CookieJar()
        self.opener = build_opener(HTTPCookieProcessor(self.cookies))

    def get(self, path):
        """Open a page, following redirects. The answer has ``status``, ``url`` and ``text``."""
        return self._open(Request(self.url + path))

    def post(self, path, **fields):
        """Send a form, following redirects."""
        token = next((c.value for c in self.cookies if c.name == "csrftoken"), "")
        data = urlencode({"csrfmiddlewaretoken": token, **fields}).encode()
        return self._open(Request(self.url + path, data))

    def sign_in(self, name, password):
        self.get("/accounts/login/")
        return self.post("/accounts/login/", username=name, password=password)

    def _open(self, request):
        try:
            response = self.opener.open(request, timeout=30)
        except HTTPError as error:
            response = error
        response.text = response.read().decode(errors="replace")
        return response
