"""supervisord.conf: workers come back, and stop when their tasks are done."""

import signal
import subprocess
from contextlib import suppress

import psutil
import pytest
from celery import current_app

from posts.tasks.basics import add, sample_task
from tests.services import BIN, free_port, port_answers, wait_for
from tests.system.faults.site import kill


class Supervised:
    """The copy of the project under supervisord, and supervisorctl in its folder."""

    def __init__(self, site, process):
        self.site, self.process = site, process

    def ctl(self, *command):
        """Run supervisorctl as a user in the project's folder would. Returns what it prints."""
        result = subprocess.run(
            [BIN / "supervisorctl", *command], cwd=self.site, capture_output=True, text=True
        )
        return result.stdout

    def pid(self, program):
        return int(self.ctl("pid", program))

    def log(self, name):
        path = self.site / "var" / "log" / name
        return path.read_text() if path.exists() else ""

    def wait_for_log(self, name, text, seconds=30):
        wait_for(lambda: text in self.log(name), lambda: f"{text!r} in {self.log(name)}", seconds)


@pytest.fixture
def supervised(start, copy_of_the_site):
    process = start("supervisord", "-n", "-c", "supervisord.conf", cwd=copy_of_the_site)
    site = Supervised(copy_of_the_site, process)
    site.wait_for_log("worker.log", " ready.")
    site.wait_for_log("worker-slow.log", " ready.")
    return site


def test_a_killed_worker_comes_back(supervised):
    """C7."""
    before = supervised.pid("celery:default")
    worker = psutil.Process(before)
    kill([worker, *worker.children(recursive=True)])
    wait_for(lambda: supervised.pid("celery:default") not in (0, before), "a new worker")
    result = add.delay(1, 2, seconds=0)
    assert result.get(timeout=30) == 3


@pytest.mark.proves("program:default.stopsignal", "program:slow.stopsignal", without="QUIT")
def test_a_stop_in_the_middle_of_a_task_lets_it_finish(supervised):
    """stopsignal=TERM without stopasgroup: the pool processes live until their task is done.
    Without it nothing changes as long as TERM is Supervisor's default, as it is in 4.3. With
    another signal, such as QUIT, a stop ends the running tasks."""
    results = [add.apply_async([1, 2, 5], queue=queue) for queue in ("celery", "slow")]
    wait_for(lambda: all(r.state == "STARTED" for r in results), "both tasks at work")
    # Neither ends before both workers are told, however slow this machine is.
    workers = [psutil.Process(supervised.pid(f"celery:{name}")) for name in ("default", "slow")]
    children = [child for worker in workers for child in worker.children()]
    for child in children:
        child.suspend()
    with subprocess.Popen([BIN / "supervisorctl", "stop", "celery:*"], cwd=supervised.site):
        # At TERM and at QUIT.
        told = ("Warm shutdown (MainProcess)", "will terminate all running tasks")
        for log in ("worker.log", "worker-slow.log"):
            wait_for(lambda: any(text in supervised.log(log) for text in told), log)  # noqa: B023
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.resume()
    assert [result.state for result in results] == ["SUCCESS", "SUCCESS"]


def test_the_workers_of_a_host_stop_at_the_same_time(supervised):
    """The group: both are told to stop before either has ended."""
    result = add.delay(1, 2, seconds=15)
    wait_for(lambda: result.state == "STARTED", "the task at work")
    with subprocess.Popen([BIN / "supervisorctl", "stop", "celery:*"], cwd=supervised.site):
        wait_for(lambda: "STOPPED" in supervised.ctl("status", "celery:slow"), "the idle worker")
        assert result.state == "STARTED", "the busy worker is still at work"
    assert result.state == "SUCCESS"


def test_ending_supervisord_ends_warmly_and_leaves_no_process(supervised):
    result = add.delay(1, 2, seconds=3)
    wait_for(lambda: result.state == "STARTED", "the task at work")
    family = supervised.process.family()
    supervised.process.popen.send_signal(signal.SIGTERM)
    supervised.process.wait()
    assert result.state == "SUCCESS"
    assert not [process for process in family if process.is_running()]


@pytest.mark.proves(
    "program:default.command", without="celery -A blog worker -l INFO -n celery@%%h -c 2"
)
@pytest.mark.proves(
    "program:slow.command", without="celery -A blog worker -l INFO -n slow@%%h -c 1"
)
def test_each_worker_serves_its_own_queue(supervised):
    """Without `-Q`, both workers serve both queues, and slow work holds up the short."""
    inspect = current_app.control.inspect(timeout=3, limit=2)
    wait_for(lambda: len(inspect.ping() or {}) == 2, "both workers to listen")
    queues = {
        name.split("@")[0]: [queue["name"] for queue in queues]
        for name, queues in inspect.active_queues().items()
    }
    assert queues == {"celery": ["celery"], "slow": ["slow"]}


def test_what_a_task_prints_is_in_the_workers_log(supervised):
    """C10 with redirect_stderr: one file holds all of a worker's output."""
    sample_task.delay(name="reader").get(timeout=20)
    supervised.wait_for_log("worker.log", "Hello reader, this is the worker speaking.")


def test_a_program_that_never_starts_ends_supervisord(start, copy_of_the_site):
    """FATAL: whatever started supervisord can see it and start anew."""
    conf = copy_of_the_site / "supervisord.conf"
    text = conf.read_text().replace("celery -A blog worker -l INFO -Q slow", "false")
    conf.write_text(text.replace("startsecs=10", "startsecs=1\nstartretries=1"))
    process = start("supervisord", "-n", "-c", "supervisord.conf", cwd=copy_of_the_site)
    process.wait(60)
    assert "entered FATAL state" in process.output
    fatal_log = (copy_of_the_site / "var" / "log" / "fatal.log").read_text()
    assert "celery:slow does not start" in fatal_log


def test_supervisord_in_the_background_and_then_the_server(start, copy_of_the_site):
    """C8: this line starts both, because supervisord leaves the terminal."""
    port = free_port()
    line = f"supervisord -c supervisord.conf && python manage.py runserver --noreload {port}"
    shell = start("bash", "-c", line, cwd=copy_of_the_site)
    site = Supervised(copy_of_the_site, shell)
    try:
        wait_for(lambda: port_answers(port), lambda: f"the server:\n{shell.output}")
        site.wait_for_log("worker.log", " ready.")
        assert sample_task.delay(name="you").get(timeout=20) == "Hello you"
    finally:
        pid = int((copy_of_the_site / "var" / "supervisord.pid").read_text())
        site.ctl("shutdown")
        wait_for(lambda: not psutil.pid_exists(pid), "the end of supervisord")


def test_a_worker_before_the_server_keeps_the_server_from_starting(start):
    """C6: `worker && runserver` waits for a worker that never ends by itself."""
    port = free_port()
    line = f"celery -A blog worker -l INFO && python manage.py runserver --noreload {port}"
    shell = start("bash", "-c", line)
    shell.wait_for_output(" ready.")
    assert sample_task.delay().get(timeout=20) == "Hello world"
    assert not port_answers(port)
    for process in shell.family()[1:]:
        process.terminate()
