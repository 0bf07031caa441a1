"""Runs the whole site on this machine, in the foreground: what `make run` calls.

Migrates, loads the demo posts once, starts supervisord (supervisord.local.conf) and says where
everything is. Ctrl-C stops it warmly.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from environs import Env, EnvError

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var"
RUN_ENV = VAR / "run.env"
FATAL_LOG = VAR / "log" / "fatal.log"
START_SECONDS = 60
READY = """
  Site    {url}
  Tasks   {url}tasks/
  Admin   {url}admin/
  Flower  http://127.0.0.1:{FLOWER_PORT}/
  Logs    {log}
{login}
Ctrl-C stops everything."""
DEMO_LOGIN = """
  Sign in everywhere as «demo» with the password «demo».
"""


def main():
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for folder in ("log", "redis"):
        (VAR / folder).mkdir(parents=True, exist_ok=True)
    refuse_second_run()
    RUN_ENV.unlink(missing_ok=True)
    FATAL_LOG.unlink(missing_ok=True)
    variables = {
        # supervisord finds celery, gunicorn and python beside the interpreter that runs this.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DJANGO_SETTINGS_MODULE": "blog.settings",
    }
    os.environ |= variables
    os.environ |= read_variables()
    demo = prepare_database()
    RUN_ENV.write_text(
        "# Left by `make run`, so that commands in a second terminal reach the same broker.\n"
        f"CELERY_BROKER_URL={os.environ['CELERY_BROKER_URL']}\n"
    )
    try:
        supervise(demo)
    finally:
        RUN_ENV.unlink(missing_ok=True)


def stop(message):
    """End with one line that says why."""
    sys.exit(f"make run: {message}")


def refuse_second_run():
    """Stop when this clone runs already: two would share one folder of state."""
    try:
        pid = int((VAR / "supervisord.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return
    stop(f"this clone runs already (supervisord, pid {pid}). Stop it, or run another clone.")


def read_variables():
    """Return the variables that supervisord.local.conf needs, from the environment and .env."""
    env = Env()
    env.read_env(env.str("ENV_FILE", str(ROOT / ".env")), recurse=False)
    try:
        ports = {"PORT": env.int("PORT", 8000), "FLOWER_PORT": env.int("FLOWER_PORT", 5555)}
        login = flower_login(env)
    except EnvError as error:
        stop(str(error))
    for name, port in ports.items():
        refuse_used_port(name, port)
    return {
        **{name: str(port) for name, port in ports.items()},
        "FLOWER_BASIC_AUTH": login,
        **broker(given_broker(env)),
    }


def given_broker(env):
    """Return the broker's URL where one is set, in one variable or in parts, else «».

    Args:
        env (environs.Env): where the variables are read.
    """
    if not env.str("BROKER_HOST", ""):
        return env.str("CELERY_BROKER_URL", "")
    from django.core.exceptions import ImproperlyConfigured

    try:
        from blog.settings import CELERY_BROKER_URL
    except ImproperlyConfigured as error:
        stop(str(error))
    return CELERY_BROKER_URL


def flower_login(env):
    """Return Flower's «user:password»: the demo login with DEBUG, otherwise it has to be set.

    Args:
        env (environs.Env): where the variables are read.
    """
    login = env.str("FLOWER_BASIC_AUTH", "demo:demo" if env.bool("DEBUG", False) else "")
    if not login:
        stop("without DEBUG, set FLOWER_BASIC_AUTH=user:password. Flower can end tasks.")
    return login


def refuse_used_port(name, port):
    """Stop when nobody can listen on a port.

    Args:
        name (str): the variable that names it.
        port (int): the port, on 127.0.0.1.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            stop(f"port {port} cannot be used: {reason}. Choose another: make run {name}=…")


def broker(url):
    """Return the variables for the broker: the given one, or an embedded Redis on a free port.

    Args:
        url (str): the value of CELERY_BROKER_URL, empty when it is not set.
    """
    if url:
        return {
            "CELERY_BROKER_URL": url,
            "EMBEDDED_REDIS": "false",
            "REDIS_SERVER": "redis-server",
            "REDIS_PORT": "0",
        }
    server = shutil.which("redis-server")
    if not server:
        stop(
            "there is no redis-server. Install it (apt-get install redis-server, "
            "brew install redis), or name a broker: make run CELERY_BROKER_URL=redis://…"
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    return {
        "CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "EMBEDDED_REDIS": "true",
        "REDIS_SERVER": server,
        "REDIS_PORT": port,
    }


def prepare_database():
    """Migrate, and with DEBUG load the demo posts. Returns whether there is a demo login."""
    print("Preparing the database …", flush=True)
    import django
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import BaseCommand, CommandError, call_command

    try:
        django.setup()
        BaseCommand().check()
        call_command("migrate", verbosity=0)
        if settings.DEBUG:
            call_command("load_demo")
    except (ImproperlyConfigured, EnvError, CommandError) as error:
        stop(str(error))
    return settings.DEBUG


def supervise(demo):
    """Run supervisord until it ends or somebody stops it.

    Args:
        demo (bool): whether to tell of the demo login.
    """
    print("Starting the web server, the workers, beat and Flower …", flush=True)
    supervisord = subprocess.Popen(
        ["supervisord", "-n", "-c", "supervisord.local.conf"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on.
    )
    stopping = False

    def pass_on(signum, frame):
        nonlocal stopping
        if not stopping:
            print("\nStopping. Tasks that run may finish first …", flush=True)
        stopping = True
        supervisord.terminate()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, pass_on)
    url = f"http://127.0.0.1:{os.environ['PORT']}/"
    deadline = time.monotonic() + START_SECONDS
    while not answers(url) and not stopping and supervisord.poll() is None:
        if time.monotonic() > deadline:
            supervisord.terminate()
            supervisord.wait()
            stop(f"no answer from {url} in {START_SECONDS} s. See {VAR / 'log' / 'web.log'}")
        time.sleep(0.1)
    if supervisord.poll() is None and not stopping:
        login = DEMO_LOGIN if demo else ""
        print(READY.format(url=url, log=VAR / "log", login=login, **os.environ), flush=True)
    supervisord.wait()
    if not stopping:
        reason = FATAL_LOG.read_text().strip() if FATAL_LOG.exists() else "supervisord has ended"
        stop(f"{reason}. See its log in {VAR / 'log'}")
    print("Stopped.", flush=True)


def answers(url):
    """Whether a web server answers there, with whatever status."""
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
