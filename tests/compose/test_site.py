"""docker compose up: from nothing to a site that works, and goes on when parts of it do not."""

import os
import re
import subprocess
import time
import uuid
from base64 import b64encode
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from .stack import APP, clean_environment, wait_slowly

pytestmark = pytest.mark.timeout(900)

# How often the tests that look for lost tasks repeat. CI is content with few.
ROUNDS = int(os.environ.get("COMPOSE_ROUNDS", "1"))

HEALTHY = {(service, "healthy") for service in (*APP, "db", "redis")}

# A worker that can never start: what is left of it is how it ends.
BROKEN = """
services:
  broken:
    extends: {file: docker-compose.yml, service: worker}
    environment: {DATABASE_URL: nonsense}
    profiles: [broken]
"""


@pytest.fixture(scope="module")
def started(stacks):
    """The site, started from nothing, with its health then and the seconds it took."""
    stack = stacks("docker-compose.yml", "broken.yml")
    (stack.folder / "broken.yml").write_text(BROKEN)
    stack("build", "web")
    begin = time.monotonic()
    stack.up()
    seconds = time.monotonic() - begin
    print(f"From nothing to all healthy: {seconds:.1f} s")
    return stack, stack.health(), seconds


@pytest.fixture
def site(started):
    """The site, all of it healthy, with one container a service."""
    stack, *_ = started
    workers = stack.containers("worker")
    if stack.health() != HEALTHY or len(workers) != 1:
        stack.up()
    return stack


def test_the_first_start_is_green(started):
    stack, health, seconds = started
    assert health == HEALTHY
    (migrate,) = stack.containers("migrate")
    assert stack.inspect(migrate, ".State.ExitCode") == 0
    assert seconds < 120, "30 s on an idle machine"


def test_a_task_through_the_web_page(site):
    """A click, a result on the page, and in PostgreSQL its name, worker and result."""
    visitor = site.visitor()
    fields = {"add-x": "1900", "add-y": "2300", "add-seconds": "0"}
    assert visitor.post("/tasks/run/add/", **fields).status == 200
    look = "SELECT task_name, worker, result, status FROM django_celery_results_taskresult"
    look += " WHERE task_name = 'posts.tasks.basics.add' AND result = '4200'"
    ((name, worker, result, status),) = wait_slowly(lambda: site.sql(look), "the result")
    host = site.inspect(site.containers("worker")[0], ".Config.Hostname")
    assert (worker, result, status) == (f"celery@{host}", "4200", "SUCCESS")
    assert name in visitor.get("/tasks/").text or "add" in visitor.get("/tasks/").text


def test_an_export_is_written_by_the_worker_and_handed_out_by_the_web(site):
    visitor = site.visitor()
    page = visitor.post("/tasks/export/")
    task_id = uuid.UUID(re.search(r"/tasks/export/([0-9a-f-]{36})/", page.url)[1])
    site.wait_for_states([task_id], SUCCESS=1)
    archive = visitor.opener.open(f"{site.url}/tasks/export/{task_id}/download/").read()
    assert archive.startswith(b"PK")


def test_static_files_and_uploads_are_served(site):
    visitor = site.visitor()
    page = visitor.get("/").text
    for address in re.findall(r'(?:href|src)="(/(?:static|media)/[^"]+)"', page):
        assert visitor.opener.open(site.url + address).status == 200, address
    assert "/static/" in page
    assert "/media/" in page


def test_the_worker_has_a_worker_for_each_queue(site):
    listed = site.exec("worker", "supervisorctl", "status")
    assert re.findall(r"^(\S+) +(?:RUNNING|STARTING)", listed, re.MULTILINE) == [
        "celery:default",
        "celery:slow",
        "fatal",
    ]


@pytest.mark.parametrize("service", APP)
def test_no_rights_beyond_the_need(site, service):
    """An ordinary user without capabilities, who can change nothing of the code."""
    status = site.exec(service, "cat", "/proc/self/status")
    fields = dict(re.findall(r"^(\w+):\t(.*)$", status, re.MULTILINE))
    assert fields["Uid"].split() == ["10001"] * 4
    assert fields["NoNewPrivs"] == "1"
    assert {fields[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {""}
    for path in ("/app/blog/x", "/venv/x", "/usr/x", "/state/x"):
        refused = site("exec", "-T", service, "touch", path, check=False)
        assert re.search("Read-only file system|Permission denied", refused.stderr)


@pytest.mark.parametrize("service", ["db", "redis"])
def test_every_process_of_the_database_and_of_redis_has_a_user_of_its_own(site, service):
    (container,) = site.containers(service)

    def roots():
        listed = site.run("top", container, "-eo", "pid,uid,args").splitlines()[1:]
        assert listed
        return [line for line in listed if line.split()[1] == "0"]

    # The engine runs the health check as root, for a moment: that is no process of the server.
    wait_slowly(lambda: not roots(), lambda: str(roots()), 30)


def test_redis_keeps_its_data_refuses_when_full_and_wants_a_password(site):
    answer = site.exec("redis", "redis-cli", "config", "get", "appendonly").split()
    assert answer == ["appendonly", "yes"]
    answer = site.exec("redis", "redis-cli", "config", "get", "maxmemory-policy").split()
    assert answer == ["maxmemory-policy", "noeviction"]
    refused = site("exec", "-T", "-e", "REDISCLI_AUTH=", "redis", "redis-cli", "dbsize")
    assert "NOAUTH" in refused.stdout


@pytest.mark.proves("compose:web.ports", without="- ${PORT:-8000}:8000")
@pytest.mark.proves("compose:flower.ports", without="- ${FLOWER_PORT:-5555}:5555")
def test_ports_are_published_on_loopback_only(site):
    """For a web server in front, on the same host. Without 127.0.0.1, everybody who reaches the
    host reaches the port, past its firewall."""
    published = {}
    for service in (*APP, "db", "redis"):
        (container,) = site.containers(service)
        for bindings in site.inspect(container, ".NetworkSettings.Ports").values():
            published.update({int(b["HostPort"]): b["HostIp"] for b in bindings or []})
    assert published == {site.port: "127.0.0.1", site.flower_port: "127.0.0.1"}


@pytest.mark.proves(
    "compose:flower.environment.FLOWER_BASIC_AUTH", "compose:flower.environment.FLOWER_READ_ONLY"
)
def test_flower_asks_who_you_are_and_changes_nothing(site):
    """Without FLOWER_BASIC_AUTH, Flower shows everybody all arguments and results. Without
    FLOWER_READ_ONLY, whoever is let in can end workers."""
    address = f"http://127.0.0.1:{site.flower_port}"

    def ask(path, login=None, method="GET"):
        request = Request(address + path, method=method)
        if login:
            request.add_header("Authorization", "Basic " + b64encode(login).decode())
        try:
            return urlopen(request, timeout=30).status
        except HTTPError as error:
            return error.code

    assert ask("/") == 401
    assert ask("/workers", b"demo:demo") == 200
    (worker,) = site.containers("worker")
    node = f"celery@{site.inspect(worker, '.Config.Hostname')}"
    assert ask(f"/api/worker/shutdown/{node}", b"demo:demo", "POST") == 403


def test_the_worker_probe_costs_next_to_nothing(site):
    """At most 30 ms of CPU, the mean of twenty."""
    script = "for n in $(seq 20); do docker/probe-worker || exit 1; done; times"
    printed = site.exec("worker", "bash", "-c", script)
    children = re.findall(r"(\d+)m([\d.]+)s", printed.splitlines()[-1])
    cpu = sum(60 * float(m) + float(s) for m, s in children) / 20
    print(f"Worker probe: {cpu * 1000:.1f} ms of CPU")
    assert cpu < 0.03


def test_the_probes_see_a_dead_web_worker_and_beat(site):
    """Stopped, not killed: the containers run on, and only a probe can tell."""
    programs = {"worker": "slow@", "beat": "beat", "web": "gunicorn"}
    for service, program in programs.items():
        site.signal(service, "STOP", program)
    site.exec("beat", "rm", "/tmp/beat-answered")  # as if a minute had passed
    try:
        ill = {(service, "unhealthy") for service in programs}
        wait_slowly(lambda: ill <= site.health(), lambda: f"{ill} in {site.health()}", 150)
    finally:
        for service, program in programs.items():
            site.signal(service, "CONT", program)
        wait_slowly(lambda: site.health() == HEALTHY, lambda: str(site.health()))


def test_a_program_in_fatal_ends_its_container_which_starts_anew(site):
    site("up", "--detach", "--no-deps", "broken")
    (broken,) = site.containers("broken")
    try:
        wait_slowly(
            lambda: site.inspect(broken, ".RestartCount") > 0,
            lambda: site.run("logs", broken)[-2000:],
            120,
        )
        assert re.search("celery:(slow|default) does not start", site("logs", "broken").stdout)
    finally:
        site("rm", "--force", "--stop", "broken")


def test_three_workers_share_the_work(site):
    """--scale worker=3: names of their own, and all three have their part of 100 tasks."""
    site.up("--scale", "worker=3", "--no-recreate")
    hosts = {site.inspect(c, ".Config.Hostname") for c in site.containers("worker")}
    assert len(hosts) == 3
    ids = site.send("[add.delay(1, n, seconds=1) for n in range(100)]")
    site.wait_for_states(ids, SUCCESS=100)
    done = site.workers_of(ids)
    print(done)
    assert set(done) == {f"celery@{host}" for host in hosts}


WORK = (
    "[*[add.delay(1, n, seconds=10) for n in range(2)], export_blog.delay(owner_id=1),"
    " *[add.delay(1, n, seconds=1) for n in range(5)]]"
)


# The worker of the queue «celery» does two at a time.
SHORT_WORK = "[add.delay(1, n, seconds=3) for n in range(8)]"


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_stop_in_the_middle_of_work_loses_nothing(site, number):
    """Two 10-second tasks and an export run, five more wait. All end well, before or after."""
    ids = site.send(WORK)
    wait_slowly(lambda: site.states(ids).get("PENDING", 0) == 5, "three tasks at work", 30)
    site("stop")
    (worker,) = site.containers("worker")
    assert site.inspect(worker, ".State.ExitCode") == 0, "not killed"
    site.up()
    site.wait_for_states(ids, SUCCESS=8)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_restart_of_redis_in_the_middle_of_work_loses_nothing(site, number):
    ids = site.send(SHORT_WORK)
    wait_slowly(lambda: site.states(ids).get("STARTED") == 2, "tasks at work", 30)
    site("restart", "redis")
    site.wait_for_states(ids, SUCCESS=8)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_restart_of_postgresql_in_the_middle_of_work_loses_nothing(site, number):
    """What ends while PostgreSQL is away is stored when it is back: `tasklog.backends`."""
    ids = site.send(SHORT_WORK)
    wait_slowly(lambda: site.states(ids).get("STARTED") == 2, "tasks at work", 30)
    site("restart", "db")
    site.up()
    site.wait_for_states(ids, SUCCESS=8)


def test_all_that_was_sent_ends_when_a_worker_is_killed(site):
    """KILL leaves no time. What waited is done by the next worker. What ran was acknowledged, so
    that it never runs twice: when its time limit and a minute have passed, it is a FAILURE, and it
    can be called again. The minute is taken away here; beat looks within another.
    """
    work = "[add.apply_async((n, 1, 6), time_limit=10, soft_time_limit=8) for n in range(8)]"
    ids = site.send(work)
    wait_slowly(lambda: site.states(ids).get("STARTED") == 2, "tasks at work", 30)
    site("kill", "worker")
    lost = site.states(ids)["STARTED"]
    assert 1 <= lost <= 2
    older = "update(date_done=F('date_done') - timedelta(minutes=1))"
    code = (
        "from datetime import timedelta; from django.db.models import F;"
        "from django_celery_results.models import TaskResult;"
        f"print(TaskResult.objects.filter(status='STARTED', task_id__in={ids}).{older})"
    )
    moved = site.exec("web", "python", "manage.py", "shell", "-v0", "-c", code)
    assert int(moved) == lost
    site.up()
    site.wait_for_states(ids, seconds=200, SUCCESS=8 - lost, FAILURE=lost)
    retry = "python manage.py retry_tasks --state FAILURE --name posts.tasks.basics.add --yes"
    lines = site.exec("web", *retry.split()).splitlines()
    again = [line.split("\t")[1] for line in lines if line.split("\t")[0] in ids]
    assert len(again) == lost
    site.wait_for_states(again, SUCCESS=lost)


def test_a_crashed_worker_container_comes_back_by_itself(site):
    """Its first process ends by itself, which no `docker compose kill` shows: that is a stop."""
    (worker,) = site.containers("worker")
    count = site.inspect(worker, ".RestartCount")
    site.signal("worker", "KILL", "supervisord", check=False)
    wait_slowly(lambda: site.inspect(worker, ".RestartCount") > count, "a restart", 30)
    (id,) = site.send("[add.delay(1, 2, seconds=0)]")
    site.wait_for_states([id], SUCCESS=1)


@pytest.mark.proves("compose:web.develop")
def test_a_change_of_the_code_reaches_web_and_workers(site):
    """docker compose watch. Without this section it has nothing to watch, and ends."""
    log = site.folder.parent / "watch.log"
    files = [part for file in site.files for part in ("-f", file)]
    command = [site.docker, "compose", "--env-file", os.devnull, *files, "watch", "--no-up"]
    env = clean_environment(**site.env)
    with open(log, "w") as output:
        watch = subprocess.Popen(command, cwd=site.folder, env=env, stdout=output, stderr=output)
    try:
        wait_slowly(lambda: "Watch" in log.read_text(), lambda: log.read_text(), 30)
        urls = site.folder / "blog" / "urls.py"
        urls.write_text(
            urls.read_text()
            + "\nfrom django.http import HttpResponse\n"
            + 'urlpatterns.append(path("changed/", lambda request: HttpResponse("changed")))\n'
        )

        def changed():
            try:
                return site.visitor().get("/changed/").status == 200
            except (URLError, ConnectionError):
                return False

        wait_slowly(changed, lambda: log.read_text(), 120)
        look = ("worker", "grep", "changed", "/app/blog/urls.py")
        wait_slowly(lambda: site.exec(*look, check=False), lambda: log.read_text(), 60)
        wait_slowly(lambda: site.health() == HEALTHY, lambda: str(site.health()), 150)
    finally:
        watch.terminate()
        watch.wait(30)
