"""A site to break: its PostgreSQL, its Redis, its programs, and what became of the work."""

import json
import os
from collections import Counter
from contextlib import suppress

import psutil
import psycopg

from tests.conftest import Starter
from tests.services import wait_for

LOAD = int(os.environ.get("CALLS", 1000))
HELD = [LOAD // 2, LOAD // 2 + 1]  # one of each kind
HELD_LIMIT = 60  # seconds: longer than a busy machine needs to begin both

VISIBILITY_TIMEOUT = 9  # seconds, as faults/settings.py says
ENDED = ("SUCCESS", "FAILURE", "REVOKED")
NOT_ENDED = (
    "FROM tasklog_taskcall LEFT JOIN django_celery_results_taskresult AS result USING (task_id) "
    f"WHERE (result.status IS NULL OR result.status NOT IN {ENDED})"
)


class Site:
    """The site with the settings of faults/settings.py. Programs are started as `Starter` does.

    Args:
        folder (Path): for the programs' output and for what the site writes.
        redis (Redis): running; the test may stop it.
        postgres (Postgres): the same.
    """

    def __init__(self, folder, redis, postgres):
        self.redis, self.postgres = redis, postgres
        self.state = folder / "state"
        self.held = self.state / "held"
        self.env = {
            "DJANGO_SETTINGS_MODULE": "tests.system.faults.settings",
            "DATABASE_URL": postgres.url,
            "CELERY_BROKER_URL": redis.url(),
            "STATE_DIR": str(self.state),
        }
        self.start = Starter(folder, self.env)

    # --- Programs -------------------------------------------------------------------------------

    def worker(self, *options):
        return self.start.worker(*options)

    def beat(self):
        beat = self.start("celery", "-A", "blog", "beat", "-l", "INFO", "--pidfile=")
        return beat.wait_for_output("beat pidbox: Connected")

    def send(self, first=0, last=LOAD, *held, limit=HELD_LIMIT, countdown=0):
        """Have a process send the load. Those ``held`` end after `let_go`, or at their limit.

        The message of one that is acknowledged late comes again after VISIBILITY_TIMEOUT.
        """
        if held:
            self.state.mkdir(exist_ok=True)
            self.held.touch()
        arguments = map(str, (first, last, limit, countdown, *held))
        return self.start("python", "-m", "tests.system.faults.send", *arguments)

    def let_go(self):
        """Let go on what is held, and what will be."""
        self.held.unlink()

    def call(self, *calls):
        """Call tasks by their names: ``call([name, [argument, …], options], …)``. Returns ids."""
        program = self.start("python", "-m", "tests.system.faults.send", json.dumps(calls))
        assert program.wait(60) == 0, program.output
        return json.loads(program.output.splitlines()[-1])

    def manage(self, *command):
        """Run a command of manage.py. Returns the process, which has ended."""
        process = self.start("python", "manage.py", *command)
        process.wait(60)
        return process

    def end(self):
        """End all programs, warmly. Returns what is left of them, or of those killed before."""
        for program in reversed(self.start.started):
            if program.running and "beat" not in program.command:
                program.popen.terminate()
            elif program.running:
                # It can miss a TERM: test_a_beat_that_is_stopped_while_it_sends_goes_on
                program.popen.kill()
        for program in self.start.started:
            program.wait(60)
        left = []

        def all_gone():
            left[:] = [p for program in self.start.started for p in processes_of(program)]
            return not left

        try:
            wait_for(all_gone, "the programs to end", 15)
        except AssertionError:
            return left
        return []

    # --- What became of the work ------------------------------------------------------------------

    def query(self, sql, *values):
        with psycopg.connect(self.postgres.url, autocommit=True, connect_timeout=5) as database:
            cursor = database.execute(sql, values)
            return cursor.fetchall() if cursor.description else None

    def numbers(self, table):
        """How often each number is in a table: ``asked``, ``runs``, ``effects``."""
        return Counter(dict(self.query(f"SELECT number, count(*) FROM {table} GROUP BY number")))

    def wait_for_effects(self, number):
        def enough():
            return self.query("SELECT count(*) FROM effects")[0][0] >= number

        wait_for(enough, lambda: f"{number} effects:\n{self.report()}", 120)

    def wait_for_the_middle_of(self, *numbers):
        """Wait until these have begun, and have not ended."""

        def begun():
            return set(self.numbers("runs")) >= set(numbers)

        wait_for(begun, lambda: f"{numbers} to begin:\n{self.report()}", 120)
        assert not set(self.numbers("effects")) & set(numbers), "too late"

    def in_the_middle(self):
        """Whether there are effects, and calls that no worker has begun."""
        waiting = self.query(f"SELECT count(*) {NOT_ENDED} AND status IS NULL")[0][0]
        return bool(waiting and self.numbers("effects"))

    def wait_for_calls_that_have_not_ended(self, number, asked=LOAD, seconds=180):
        """Wait until all were asked for, and all but so many have a state in which they stay."""

        def ended():
            if self.query("SELECT count(*) FROM asked")[0][0] < asked:
                return False
            return self.query(f"SELECT count(*) {NOT_ENDED}")[0][0] <= number

        wait_for(ended, lambda: f"all calls to end:\n{self.report()}", seconds)

    def wait_for_all_calls_to_end(self, asked=LOAD, resend=0):
        """Wait until all were asked for, and have ended.

        Args:
            asked (int): how many.
            resend (int): so many of them may have been lost on their way. Like anybody who finds
                stale calls, send these again.
        """
        self.wait_for_calls_that_have_not_ended(resend, asked)
        if resend:
            silent = VISIBILITY_TIMEOUT + 4
            heard_at = "coalesce(date_done, sent_at, eta, submitted_at)"
            heard_of = f"{NOT_ENDED} AND {heard_at} > now() - interval '{silent} s'"

            def none_was_heard_of():
                return self.query(f"SELECT count(*) {heard_of}")[0][0] == 0

            def all_ended():
                return self.query(f"SELECT count(*) {NOT_ENDED}")[0][0] == 0

            wait_for(none_was_heard_of, lambda: f"silence:\n{self.report()}", 90)
            if not all_ended():
                self.manage("find_stale_tasks", "--seconds", str(silent), "--resend")
            wait_for(all_ended, lambda: f"all calls to end:\n{self.report()}", 90)

    def effects_are_complete(self, asked=LOAD):
        """Whether the effect of each call is there. More than once it cannot be."""
        return set(self.numbers("effects")) == set(range(asked))

    def runs_more_than_once(self):
        """The numbers that ran more than once."""
        return {number for number, times in self.numbers("runs").items() if times > 1}

    def in_state(self, state):
        """The numbers of the calls that ended so, with what their results say."""
        return dict(
            self.query(
                "SELECT number, result FROM django_celery_results_taskresult "
                "JOIN asked USING (task_id) WHERE status = %s",
                state,
            )
        )

    def result_of(self, task_id):
        """The state of a call, and its result as JSON has it."""
        rows = self.query(
            "SELECT status, result FROM django_celery_results_taskresult WHERE task_id = %s",
            task_id,
        )
        return (rows[0][0], json.loads(rows[0][1] or "null")) if rows else ("PENDING", None)

    def retry_failures(self, name="tests.system.faults.tasks"):
        """What somebody does about failures once their cause is gone. Returns how many."""
        command = self.manage("retry_tasks", "--state", "FAILURE", "--yes")
        assert command.wait() == 0, command.output
        return command.output.count(name)

    def report(self):
        """All that helps to see why something did not end."""
        if not self.postgres.process.running:
            return self.outputs()
        calls = self.query(f"SELECT status, args, sent_at, claimed_at {NOT_ENDED} LIMIT 20")
        return f"not ended: {calls}\n{self.outputs()}"

    def outputs(self):
        return "\n".join(f"--- {p}\n{p.output[-4000:]}" for p in self.start.started)


def processes_of(program):
    """The processes of a program that are still there, whoever their parent is now."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == program.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def kill(processes):
    """SIGKILL processes, as the kernel does when memory runs out."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a pool dies with its worker
            process.kill()


def signal_all(server, number):
    """Send a signal to all processes of a server."""
    for process in server.process.family():
        with suppress(psutil.NoSuchProcess):  # one of PostgreSQL's may just have ended
            process.send_signal(number)
