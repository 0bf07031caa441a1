"""Processes of workers are killed, restarted and replaced in the middle of work."""

import psycopg
import pytest

from tests.services import wait_for

from .site import HELD, HELD_LIMIT, LOAD, kill, processes_of

pytestmark = pytest.mark.timeout(600)

EARLY, LATE = HELD


GRACE = 60  # seconds, of `end_lost_calls`
LEAKED = 200  # MB


def lost_calls(site, number, seconds):
    """What beat looks for every minute, if a call was heard of so many seconds ago.

    Returns the exit status: 1 if there were any. They are FAILURE then.
    """
    site.query(
        "UPDATE django_celery_results_taskresult AS result "
        "SET date_done = now() - make_interval(secs => %s) "
        "FROM asked WHERE asked.task_id = result.task_id AND asked.number = %s",
        seconds,
        number,
    )
    return site.manage("end_lost_calls").wait()


def test_a_worker_is_killed(site):
    """Its pool goes with it, and another goes on. What was acknowledged late comes back by itself,
    after the visibility timeout. What was acknowledged early is lost, and says so: a minute after
    its time limit it becomes a FAILURE, and can be retried.
    """
    worker = site.worker()
    site.send(0, LOAD, *HELD)
    site.wait_for_the_middle_of(*HELD)
    worker.popen.kill()
    wait_for(lambda: not processes_of(worker), "the end of the pool")
    assert site.in_the_middle()
    assert set(site.in_state("STARTED")) == {EARLY, LATE}
    site.let_go()
    site.worker()
    site.wait_for_calls_that_have_not_ended(1)
    assert lost_calls(site, EARLY, HELD_LIMIT + GRACE / 2) == 0
    assert set(site.in_state("STARTED")) == {EARLY}
    assert lost_calls(site, EARLY, HELD_LIMIT + GRACE + 1) == 1
    site.wait_for_all_calls_to_end()
    failures = site.in_state("FAILURE")
    assert set(failures) == {EARLY}
    assert "WorkerLostError" in failures[EARLY]
    assert set(site.numbers("effects")) == set(range(LOAD)) - {EARLY}
    assert site.runs_more_than_once() == {LATE}
    assert site.retry_failures() == 1
    site.wait_for_all_calls_to_end()
    assert site.effects_are_complete()
    assert site.end() == []


def test_a_worker_is_killed_before_it_could_say_that_it_began(site):
    """Acknowledged, and not STARTED yet: nobody has the message, and the call says PENDING.

    `find_stale_tasks` finds it, and sends it again under its own id.
    """
    site.send(0, LOAD).wait(120)
    with psycopg.connect(site.postgres.url) as database:
        database.execute("LOCK TABLE django_celery_results_taskresult IN SHARE MODE")
        worker = site.worker()
        # Both processes stand before the lock, and one message is acknowledged.
        worker.wait_for_output("early[", 60).wait_for_output("late[", 60)
        client = site.redis.client()
        wait_for(lambda: client.hlen("unacked") == 1, "the early acknowledgement")
        waiting = "FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_for(lambda: site.query(f"SELECT count(*) {waiting}") == [(2,)], "both at the lock")
        kill(processes_of(worker))
        # PostgreSQL does not notice, and would still write what the dead have asked for.
        database.execute(f"SELECT pg_terminate_backend(pid) {waiting}")
        wait_for(lambda: site.query(f"SELECT count(*) {waiting}") == [(0,)], "their end")
    site.worker()
    site.wait_for_calls_that_have_not_ended(1)
    assert set(site.numbers("effects")) == set(range(LOAD)) - {0}
    found = site.manage("find_stale_tasks", "--seconds", "5", "--resend")
    assert "1 sent." in found.output
    site.wait_for_all_calls_to_end()
    assert site.in_state("FAILURE") == {}
    assert site.effects_are_complete()
    assert site.end() == []


def test_the_pool_processes_are_killed(site):
    """What they ran is a FAILURE at once, however it is acknowledged, and the worker has new ones.

    Late, too: a task that kills its process would otherwise do so for ever.
    """
    worker = site.worker()
    site.send(0, LOAD, *HELD)
    site.wait_for_the_middle_of(*HELD)
    kill(worker.family()[1:])
    site.let_go()
    assert site.in_the_middle()
    site.wait_for_all_calls_to_end()
    failures = site.in_state("FAILURE")
    assert set(failures) == {EARLY, LATE}
    assert all("WorkerLostError" in result for result in failures.values())
    assert site.runs_more_than_once() == set()
    assert site.retry_failures() == 2
    site.wait_for_all_calls_to_end()
    assert site.effects_are_complete()
    assert worker.running
    assert site.end() == []


def test_all_workers_of_a_host_are_restarted(site, copy_of_the_site):
    """`supervisorctl restart all` loses nothing, what ran has finished, and each call runs once."""
    site.start("supervisord", "-n", "-c", "supervisord.conf", cwd=copy_of_the_site)
    site.send(0, LOAD, *HELD)
    site.wait_for_the_middle_of(*HELD)
    restart = site.start("supervisorctl", "restart", "all", cwd=copy_of_the_site)
    logs = [copy_of_the_site / "var" / "log" / name for name in ("worker.log", "worker-slow.log")]
    for log in logs:
        wait_for(lambda: "Warm shutdown" in log.read_text(), f"the stop in {log}")  # noqa: B023
    assert site.in_the_middle()
    site.let_go()
    restart.wait_for_output("celery:default: started", 60)
    restart.wait_for_output("celery:slow: started", 60)
    site.wait_for_all_calls_to_end()
    assert len(site.in_state("SUCCESS")) == LOAD
    assert site.runs_more_than_once() == set()
    assert site.effects_are_complete()
    assert site.end() == []


def test_a_pool_process_that_takes_too_much_memory_is_replaced(site):
    """`--max-memory-per-child`: the process that took more than that, and no other.

    settings.py sets no limit: what is too much depends on the machine and the tasks.
    """
    worker = site.worker("--max-memory-per-child", str(LEAKED * 1024))
    pool = {process.pid for process in worker.family()[1:]}
    site.send(0, LOAD)
    site.wait_for_effects(LOAD // 10)
    [leak] = site.call(["tests.system.faults.tasks.leak", [LEAKED], {}])
    site.wait_for_all_calls_to_end()
    status, leaking = site.result_of(leak)
    assert (status, leaking in pool) == ("SUCCESS", True)

    def others():
        now = {process.pid for process in worker.family()[1:]}
        return leaking not in now and len(now) == len(pool) and now

    assert wait_for(others, "a new process") > pool - {leaking}
    assert len(site.in_state("SUCCESS")) == LOAD
    assert site.runs_more_than_once() == set()
    assert site.effects_are_complete()
    assert site.end() == []
