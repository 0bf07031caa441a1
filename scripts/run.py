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

ROOT = Path(__file__).resolve().parent.parent
VAR = ROOT / "var"
RUN_ENV = VAR / "run.env"
START_SECONDS = 60


def main():
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    # supervisord finds celery, gunicorn and python beside the interpreter that runs this.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for folder in ("log", "redis"):
        (VAR / folder).mkdir(parents=True, exist_ok=True)
    refuse_second_run()
    RUN_ENV.unlink(missing_ok=True)
    # Read before anything of Django: it may be in the environment or in .env.
    from environs import Env

    env = Env()
    env.read_env(env.str("ENV_FILE", str(ROOT / ".env")), recurse=False)
    port = free_port(env, "PORT", 8000)
    flower_port = free_port(env, "FLOWER_PORT", 5555)
    environment = {
        "PORT": str(port),
        "FLOWER_PORT": str(flower_port),
        "FLOWER_BASIC_AUTH": env.str("FLOWER_BASIC_AUTH", "demo:demo"),
        **redis(env.str("CELERY_BROKER_URL", "")),
    }
    os.environ.update(environment)
    prepare_database()
    RUN_ENV.write_text(
        "# Left by `make run`, so that commands in a second terminal reach the same broker.\n"
        f"CELERY_BROKER_URL={environment['CELERY_BROKER_URL']}\n"
    )
    try:
        return supervise(port, flower_port)
    finally:
        RUN_ENV.unlink(missing_ok=True)


def stop(message):
    sys.exit(f"make run: {message}")


def refuse_second_run():
    """Stop when this clone runs already: two would share one folder of state."""
    try:
        pid = int((VAR / "supervisord.pid").read_text())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return
    stop(f"this clone runs already (supervisord, pid {pid}). Stop it, or run another clone.")


def free_port(env, name, default):
    """Return the port that a variable names, or stop when it cannot be had.

    Args:
        env (environs.Env): where the variable is read.
        name (str): the variable.
        default (int): the port when it is not set.
    """
    port = env.int(name, default)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            stop(f"port {port} cannot be used ({error.strerror}). Choose another: {name}=… make run")
    return port


def redis(broker_url):
    """Return the environment for Redis: the given broker, or an embedded server on a free port.

    Args:
        broker_url (str): the value of CELERY_BROKER_URL, empty when it is not set.
    """
    if broker_url:
        return {
            "CELERY_BROKER_URL": broker_url,
            "EMBEDDED_REDIS": "false",
            "REDIS_SERVER": "redis-server",
            "REDIS_PORT": "0",
        }
    server = shutil.which("redis-server")
    if not server:
        stop(
            "there is no redis-server. Install it (apt-get install redis-server, "
            "brew install redis), or name a broker: CELERY_BROKER_URL=redis://… make run"
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {
        "CELERY_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "EMBEDDED_REDIS": "true",
        "REDIS_SERVER": server,
        "REDIS_PORT": str(port),
    }


def prepare_database():
    """Migrate, and load the demo posts when there is no post yet."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "blog.settings")
    import django
    from django.core.management import call_command

    print("Preparing the database …", flush=True)
    django.setup()
    call_command("migrate", verbosity=0)
    if django.conf.settings.DEBUG:
        call_command("load_demo")


def supervise(port, flower_port):
    """Run supervisord until it ends or somebody stops it. Returns the exit status."""
    print("Starting Redis, web, workers, beat and Flower …", flush=True)
    stopped_by = []
    supervisord = subprocess.Popen(
        ["supervisord", "-n", "-c", "supervisord.local.conf"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on once.
    )

    def forward(signum, frame):
        if not stopped_by:
            print("\nStopping. Running tasks may finish first …", flush=True)
        stopped_by.append(signum)
        supervisord.terminate()

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, forward)
    url = f"http://127.0.0.1:{port}/"
    deadline = time.monotonic() + START_SECONDS
    while supervisord.poll() is None and not stopped_by:
        if answers(url):
            print(
                f"\n  Site    {url}                log in as demo, password demo"
                f"\n  Admin   {url}admin/"
                f"\n  Flower  http://127.0.0.1:{flower_port}/                demo, demo"
                f"\n  Logs    {VAR / 'log'}"
                "\n\nCtrl-C stops everything.",
                flush=True,
            )
            break
        if time.monotonic() > deadline:
            supervisord.terminate()
            supervisord.wait()
            stop(f"no answer from {url} in {START_SECONDS} s. See {VAR / 'log' / 'web.log'}")
        time.sleep(0.1)
    supervisord.wait()
    if not stopped_by:
        stop(f"a program failed for good. See {VAR / 'log' / 'supervisord.log'}")
    print("Stopped.", flush=True)
    return 0


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
    sys.exit(main())
