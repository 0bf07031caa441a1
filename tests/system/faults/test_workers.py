"""Processes of workers are killed, restarted and replaced in the middle of work."""

import subprocess

import psycopg
import pytest

from tests.services import BIN, wait_for

from .site import LOAD, SLOW, kill, processes_of

pytestmark = pytest.mark.timeout(600)

EARLY, LATE = SLOW


def end_lost_calls(site):
    """What beat does every minute, without the grace. Returns whether there were any."""
    return site.manage("end_lost_calls", "--grace", "0").wait() == 1


def test_a_worker_is_killed(site):
    """Its pool goes with it, and another goes on. What was acknowledged late comes back by itself,
    after the visibility timeout. What was acknowledged early is lost, and says so: it becomes a
    FAILURE, and can be retried.
    """
    worker = site.worker()
    site.send(0, LOAD, *SLOW)
    site.wait_for_the_middle_of(*SLOW)
    worker.popen.kill()
    wait_for(lambda: not processes_of(worker), "the end of the pool")
    site.worker()
    wait_for(lambda: end_lost_calls(site), lambda: f"lost calls:\n{site.report()}", 60)
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
    site.send(0, LOAD, *SLOW)
    site.wait_for_the_middle_of(*SLOW)
    kill(worker.family()[1:])
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
    site.send(0, LOAD, *SLOW)
    site.wait_for_the_middle_of(EARLY)
    ctl = [BIN / "supervisorctl", "restart", "all"]
    restart = subprocess.run(ctl, cwd=copy_of_the_site, capture_output=True, text=True)
    assert "celery:default: started" in restart.stdout
    assert "celery:slow: started" in restart.stdout
    site.wait_for_all_calls_to_end()
    assert len(site.in_state("SUCCESS")) == LOAD
    assert site.runs_more_than_once() == set()
    assert site.effects_are_complete()
    assert site.end() == []


def test_a_pool_process_that_takes_too_much_memory_is_replaced(site):
    """`--max-memory-per-child`, here so low that each task is the last one of its process.

    settings.py sets no limit: what is too much depends on the machine and the tasks.
    """
    calls = LOAD // 20  # each costs a new process
    worker = site.worker("--max-memory-per-child", "1")
    pool = {process.pid for process in worker.family()[1:]}
    site.send(0, calls)
    site.wait_for_all_calls_to_end(calls)
    assert len(site.in_state("SUCCESS")) == calls
    assert site.runs_more_than_once() == set()
    assert site.effects_are_complete(calls)
    wait_for(lambda: not pool & {process.pid for process in worker.family()}, "new processes")
    assert site.end() == []
