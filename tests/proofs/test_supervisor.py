"""supervisord.conf, option by option: see also tests/system/test_supervisor.py.

supervisord is the real one. Where it matters not what the programs do, a script stands in for their
`celery`, so that a worker need not be started twice for each option.
"""

import os
import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.services import BIN, Process, wait_for
from tests.system.test_supervisor import Supervised

LOGS = {"default": "worker.log", "slow": "worker-slow.log"}
FULL = 10 * 1024 * 1024 - 10

# Does what BEHAVIOUR says, then nothing until it is told to end.
STAND_IN = """\
#!/bin/sh
echo "$*" | grep -q 'Q slow' && name=slow || name=default
echo "$name runs in $PWD"
echo "$name complains" >&2
eval "$BEHAVIOUR"
while :; do sleep 0.1; done
"""


@pytest.fixture
def run(folder, copy_of_the_site):
    """Start supervisord, from another folder than the project's: ``run("exit 1")``.

    Raises RuntimeError where supervisord ends at once: that shows nothing of a line's effect.
    """
    started = []

    def start(behaviour="", change=("", ""), conf="supervisord.conf"):
        bin, elsewhere = folder / "bin", folder / "elsewhere"
        bin.mkdir()
        elsewhere.mkdir()
        for name in ("celery", "gunicorn", "redis-server"):
            (bin / name).write_text(STAND_IN)
            (bin / name).chmod(0o755)
        conf = copy_of_the_site / conf
        conf.write_text(conf.read_text().replace(*change))
        path = f"PATH={bin}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"
        command = ["env", path, "supervisord", "-n", "-c", conf]
        env = {"BEHAVIOUR": behaviour, "REDIS_SERVER": "redis-server", "EMBEDDED_REDIS": "true"}
        env |= dict.fromkeys(["PORT", "REDIS_PORT", "FLOWER_PORT"], "0")
        started.append(Process(command, folder / "supervisord.out", env, elsewhere))
        wait_for(lambda: "supervisord started" in output() or not started[0].running, output)
        if "supervisord started" not in output():
            raise RuntimeError(f"supervisord has ended: {output()}")
        return Supervised(copy_of_the_site, started[0])

    def output():
        return started[0].output

    yield start
    started[0].stop(signal.SIGKILL)


def fill(site, log, rotated=0):
    """Write a log of nearly 10 MB, and older ones, before anybody logs to it."""
    path = site / "var" / "log" / log
    path.write_bytes(b"x" * FULL)
    for number in range(rotated):
        Path(f"{path}.{number + 1}").write_text("old")


def logs_of(site, log):
    return sorted(path.name for path in (site / "var" / "log").glob(f"{log}*"))


@pytest.mark.proves("supervisord.logfile")
def test_supervisord_logfile(run):
    """Without it, the log is in whatever folder supervisord was started from."""
    site = run()
    site.wait_for_log("supervisord.log", "supervisord started")


@pytest.mark.proves("supervisord.pidfile")
def test_supervisord_pidfile(run):
    """Without it, the pid is in whatever folder supervisord was started from."""
    path = (site := run()).site / "var" / "supervisord.pid"
    wait_for(lambda: path.exists() and path.read_text(), "the pid file")
    assert int(path.read_text()) == site.process.pid


@pytest.mark.proves("unix_http_server.file", without="%(here)s/var/another.sock")
@pytest.mark.proves("supervisorctl.serverurl")
def test_supervisorctl(run):
    """Without it, supervisorctl looks in another place, and reaches nobody."""
    assert "celery:default" in run().ctl("status")


@pytest.mark.proves(
    "rpcinterface:supervisor.supervisor.rpcinterface_factory",
    fails="does not specify a supervisor.rpcinterface_factory",
)
def test_rpcinterface(run):
    """Without it, supervisord does not start: it asks for this line, though there is one value."""
    assert run().process.running


@pytest.mark.proves("supervisord.logfile_maxbytes")
def test_supervisord_logfile_maxbytes(run, copy_of_the_site):
    """Without it, supervisord's log grows to 50 MB."""
    fill(copy_of_the_site, "supervisord.log")
    run().wait_for_log("supervisord.log", "supervisord started")
    assert logs_of(copy_of_the_site, "supervisord.log")[1:] == ["supervisord.log.1"]


@pytest.mark.proves("supervisord.logfile_backups")
def test_supervisord_logfile_backups(run, copy_of_the_site):
    """Without it, ten old logs are kept."""
    fill(copy_of_the_site, "supervisord.log", rotated=2)
    run().wait_for_log("supervisord.log", "supervisord started")
    assert logs_of(copy_of_the_site, "supervisord.log")[-1] == "supervisord.log.2"


@pytest.mark.proves("program:default.stdout_logfile", "program:slow.stdout_logfile")
def test_stdout_logfile(run):
    """Without it, the worker's log has a name of supervisord's choice in /tmp, and is removed at
    the next start."""
    site = run()
    site.wait_for_log("worker.log", "default runs")
    site.wait_for_log("worker-slow.log", "slow runs")


@pytest.mark.proves("program:default.redirect_stderr", "program:slow.redirect_stderr")
def test_redirect_stderr(run):
    """Without it, what a worker logs (to stderr) and what its tasks print are in two files."""
    site = run()
    site.wait_for_log("worker.log", "default complains")
    site.wait_for_log("worker-slow.log", "slow complains")


@pytest.mark.proves("program:default.directory", "program:slow.directory")
def test_directory(run, copy_of_the_site):
    """Without it, supervisord has to be started in the project's folder, or no worker finds the
    site's code."""
    site = run()
    site.wait_for_log("worker.log", f"default runs in {copy_of_the_site}\n")
    site.wait_for_log("worker-slow.log", f"slow runs in {copy_of_the_site}\n")


def size(path):
    # Supervisor renames a log that is full, and opens the next one after that.
    return path.stat().st_size if path.exists() else FULL


@pytest.mark.proves(
    "program:default.stdout_logfile_maxbytes", "program:slow.stdout_logfile_maxbytes"
)
def test_stdout_logfile_maxbytes(run, copy_of_the_site):
    """Without it, the worker's log grows to 50 MB."""
    for log in LOGS.values():
        fill(copy_of_the_site, log)
    site = run()
    for name, log in LOGS.items():
        path = copy_of_the_site / "var" / "log" / log
        # Written to: a new file, or the old one beyond its size.
        wait_for(lambda: size(path) != FULL, f"what {name} says")  # noqa: B023
        # Supervisor writes first, and looks at the size then.
        wait_for(lambda: logs_of(site.site, log)[1:] == [f"{log}.1"], "an old log", 10)  # noqa: B023


@pytest.mark.proves("program:default.stdout_logfile_backups", "program:slow.stdout_logfile_backups")
def test_stdout_logfile_backups(run, copy_of_the_site):
    """Without it, ten old logs of the worker are kept."""
    for log in LOGS.values():
        fill(copy_of_the_site, log, rotated=2)
    run()
    for log in LOGS.values():
        path = copy_of_the_site / "var" / "log" / log
        wait_for(lambda: size(path) < FULL, "the rotation")  # noqa: B023
        assert logs_of(copy_of_the_site, log)[-1] == f"{log}.2"


@pytest.mark.proves("program:default.autorestart", "program:slow.autorestart")
def test_autorestart(run):
    """Without it, a worker that ends with status 0, as after a remote `shutdown`, stays away."""
    site = run("trap 'exit 0' INT")
    for name in LOGS:
        site.wait_for_log("supervisord.log", f"success: {name} entered RUNNING")
    site.ctl("signal", "INT", "celery:*")
    for name in LOGS:
        starts = f"spawned: '{name}'"
        wait_for(lambda: site.log("supervisord.log").count(starts) == 2, f"2 × {starts}", 15)  # noqa: B023


@pytest.mark.proves("program:default.startsecs", "program:slow.startsecs")
def test_startsecs(run):
    """Without it, a worker that crashes five seconds after each start counts as running, and is
    started again for ever."""
    site = run("sleep 5; exit 1")
    for name in LOGS:
        site.wait_for_log("supervisord.log", f"exited: {name}")
        assert f"success: {name} entered RUNNING" not in site.log("supervisord.log")


@pytest.mark.proves("program:default.killasgroup", "program:slow.killasgroup")
def test_killasgroup(run):
    """Without it, a worker that has to be killed leaves its pool processes behind, at work and
    without anybody who would end them."""
    child = "trap '' TERM; sleep 300 & echo child $!."
    site = run(child, ("stopwaitsecs=310", "stopwaitsecs=1"))
    site.wait_for_log("worker.log", "child ")
    site.wait_for_log("worker-slow.log", "child ")
    words = (site.log("worker.log") + site.log("worker-slow.log")).split("child ")[1:]
    children = [psutil.Process(int(word.split(".")[0])) for word in words]
    site.ctl("stop", "celery:*")
    try:
        wait_for(lambda: not any(alive(child) for child in children), "the children to end", 10)
    finally:
        for child in filter(alive, children):
            child.kill()


def alive(process):
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.proves("program:default.stopwaitsecs", "program:slow.stopwaitsecs")
def test_stopwaitsecs(run):
    """Without it, a worker is killed ten seconds after it was told to stop, in the middle of its
    tasks."""
    site = run("trap 'sleep 12; echo $name is done; exit 0' TERM; echo ready")
    site.wait_for_log("worker.log", "ready")
    site.wait_for_log("worker-slow.log", "ready")
    site.ctl("stop", "celery:*")
    assert "default is done" in site.log("worker.log")
    assert "slow is done" in site.log("worker-slow.log")


@pytest.mark.proves("group:celery.programs", without="default")
def test_group(run):
    """Without the group, workers stop one after the other, each when the one before has ended."""
    # Each ends when both were told to.
    wait = "touch told-$name; while [ ! -e told-default -o ! -e told-slow ]; do sleep 0.1; done"
    site = run(f"trap '{wait}; exit 0' TERM; echo ready")
    site.wait_for_log("worker.log", "ready")
    site.wait_for_log("worker-slow.log", "ready")
    site.process.popen.terminate()
    wait_for(lambda: not site.process.running, "both to be told", 20)


@pytest.mark.proves("group:celery.priority")
def test_priority(run):
    """Without it, `make run` stops the workers first, while web and beat go on sending tasks."""
    site = run("trap 'exit 0' TERM; echo ready", conf="supervisord.local.conf")
    for log in (*LOGS.values(), "redis.log", "web.log", "beat.log", "flower.log"):
        site.wait_for_log(log, "ready")
    site.process.popen.terminate()
    site.process.wait()
    log = site.log("supervisord.log")
    stopped = re.findall(r"stopped: (\w+)", log)
    assert [name for name in stopped if name not in ("fatal", "slow")] == [
        "flower",
        "beat",
        "web",
        "default",
        "redis",
    ]


@pytest.mark.proves("eventlistener:fatal.command", without="sleep 300")
@pytest.mark.proves("eventlistener:fatal.events", without="PROCESS_STATE_EXITED")
def test_fatal(run):
    """Without it, supervisord lives on without a worker, and nobody hears of it."""
    site = run("exit 1")
    wait_for(lambda: not site.process.running, lambda: site.log("supervisord.log"), 30)


@pytest.mark.proves("eventlistener:fatal.stderr_logfile")
def test_fatal_log(run):
    """Without it, its log has a name of supervisord's choice in /tmp: who looks for the program
    that does not start has to know that."""
    run("exit 1").wait_for_log("fatal.log", "does not start")
