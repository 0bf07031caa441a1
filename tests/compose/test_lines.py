"""docker-compose.yml, line by line. Each test starts the services that it needs and no others."""

import subprocess
import time

import pytest

from .stack import APP, wait_slowly

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def stack(stacks):
    """The site, of which nothing runs yet."""
    return stacks("docker-compose.yml")


@pytest.fixture(scope="module")
def built(stack):
    stack("build", "web")
    return stack


@pytest.fixture
def db(stack):
    stack("up", "--detach", "--force-recreate", "db")
    return stack


@pytest.fixture
def redis(stack):
    stack("up", "--detach", "--force-recreate", "redis")
    return stack


def container(stack, service):
    (only,) = stack.containers(service)
    return only


def health(stack, service):
    """What Docker knows from a service's probe."""
    known = stack.inspect(container(stack, service), ".State.Health")
    return known or {"Status": "no probe", "FailingStreak": 0, "Log": []}


def becomes_healthy(stack, service):
    wait_slowly(
        lambda: health(stack, service)["Status"] == "healthy",
        lambda: str(health(stack, service)),
        60,
    )


def looks_twice(stack, service):
    """Whether the probe has been at work twice, within the 30 s of one default interval."""
    wait_slowly(lambda: len(health(stack, service)["Log"]) >= 2, "two looks", 30)


def replace_program(stack, service, name, script):
    """Put a script in the place of the program that a probe calls."""
    path = stack("exec", "-T", service, "sh", "-c", f"command -v {name}").stdout.strip()
    script = f"rm {path}; printf '#!/bin/sh\\n{script}\\n' > {path}; chmod +x {path}"
    stack("exec", "-T", "--user", "0", service, "sh", "-c", script)


def looks_often(stack, service):
    """Whether a healthy service is looked at twice more within 30 s, the default interval."""
    becomes_healthy(stack, service)
    for _ in range(2):
        before = health(stack, service)["Log"][-1]["Start"]
        wait_slowly(lambda: health(stack, service)["Log"][-1]["Start"] > before, "a look", 15)  # noqa: B023


def gives_up(stack, service, seconds=5):
    """Whether Docker ends a probe that hangs, before the 30 s that are its default."""
    wait_slowly(
        lambda: f"exceeded timeout ({seconds}s)" in str(health(stack, service)["Log"]),
        lambda: str(health(stack, service)["Log"]),
        25,
    )


def gives_up_after_five_seconds(stack, service, program):
    becomes_healthy(stack, service)
    replace_program(stack, service, program, "sleep 100")
    gives_up(stack, service)


def is_patient(stack, service, program):
    """Four failures, one more than Docker's default, are not enough to be unhealthy."""
    becomes_healthy(stack, service)
    replace_program(stack, service, program, "exit 1")
    wait_slowly(lambda: health(stack, service)["FailingStreak"] >= 4, "four failures", 60)
    assert health(stack, service)["Status"] == "healthy"


def comes_back(stack, service):
    first = container(stack, service)
    wait_slowly(lambda: stack.inspect(first, ".RestartCount") > 0, "a restart", 40)


def is_given_time(stack, service):
    """Whether a container that stands still for 12 s, longer than the default, ends by itself."""
    only = container(stack, service)
    stack.run("kill", "--signal", "STOP", only)
    with subprocess.Popen([stack.docker, "stop", only], stdout=subprocess.DEVNULL):
        time.sleep(12)
        stack.run("kill", "--signal", "CONT", only, check=False)
    assert stack.inspect(only, ".State.ExitCode") != 137, "killed"


def may_gain_no_rights(stack, service):
    return "NoNewPrivs:\t1\n" in stack.exec(service, "cat", "/proc/1/status")


def log_is_bounded(stack, service, *write):
    """A command makes the service write 45 MB, of which at most 30 are kept."""
    stack("exec", "-T", service, *write)

    def size():
        return len(stack("logs", "--no-log-prefix", service).stdout)  # of both outputs

    before = -1
    while before != (before := size()):  # until nothing comes any more
        wait_slowly(lambda: size() > 15e6, lambda: f"the log, of {size()} bytes")
    assert before < 31e6


def cli(stack, *command):
    return stack.exec("redis", "redis-cli", *command).strip()


# --- PostgreSQL -----------------------------------------------------------------------------------


@pytest.mark.proves("compose:db.healthcheck.test")
def test_db_healthcheck(db):
    """Without it, migrate does not know when PostgreSQL answers, and nothing starts."""
    becomes_healthy(db, "db")


@pytest.mark.proves("compose:db.healthcheck.interval")
def test_db_healthcheck_interval(db):
    """Others wait for the first look. Without it, the first look comes after 30 s, and the whole
    site waits for it."""
    looks_twice(db, "db")


@pytest.mark.proves("compose:db.healthcheck.timeout")
def test_db_healthcheck_timeout(db):
    """It answers in milliseconds, or not at all. Without it, a probe that hangs is given 30 s each
    time."""
    gives_up_after_five_seconds(db, "db", "pg_isready")


@pytest.mark.proves("compose:db.healthcheck.retries")
def test_db_healthcheck_retries(db):
    """A start or a recovery may take half a minute. Without it, three failures are enough: a
    PostgreSQL that recovers after a crash for ten seconds is unhealthy, and `docker compose up`
    gives up."""
    is_patient(db, "db", "pg_isready")


@pytest.mark.proves("compose:db.stop_grace_period")
def test_db_stop_grace_period(db):
    """Without it, a busy PostgreSQL is killed after ten seconds, and recovers at its next start."""
    becomes_healthy(db, "db")
    is_given_time(db, "db")


@pytest.mark.proves("compose:db.shm_size")
def test_db_shm_size(db):
    """Without it, parallel queries fail: «could not resize shared memory segment»."""
    becomes_healthy(db, "db")
    take = "dd if=/dev/zero of=/dev/shm/taken bs=1M count=200 && rm /dev/shm/taken && echo taken"
    assert db("exec", "-T", "db", "sh", "-c", take, check=False).stdout == "taken\n"


@pytest.mark.proves("compose:db.restart")
def test_db_restart(db):
    """Without it, a PostgreSQL that crashes stays away."""
    becomes_healthy(db, "db")
    db("exec", "-T", "--user", "postgres", "db", "bash", "-c", "kill -QUIT 1", check=False)
    comes_back(db, "db")


@pytest.mark.proves("compose:db.security_opt")
def test_db_security_opt(db):
    """Without it, whoever gets into PostgreSQL may become root by a setuid program."""
    assert may_gain_no_rights(db, "db")


@pytest.mark.proves("compose:db.logging", without="{driver: json-file}")
def test_db_logging(db):
    """Without it, PostgreSQL's log grows until the disk is full."""
    script = "DO $$ BEGIN FOR n IN 1..45000 LOOP RAISE LOG '%', repeat('x', 1000); END LOOP; END $$"
    becomes_healthy(db, "db")
    log_is_bounded(db, "db", "psql", "-q", "-U", "blog", "-c", script)


@pytest.mark.proves("compose:db.volumes")
def test_db_volumes(db):
    """The data outlive the container. Without it, a new container starts with an empty database."""
    becomes_healthy(db, "db")
    db.sql("CREATE TABLE IF NOT EXISTS kept (number int)")
    db("rm", "--stop", "--force", "db")
    db("up", "--detach", "db")
    becomes_healthy(db, "db")
    assert db.sql("SELECT to_regclass('kept')") == [["kept"]]


# --- Redis ----------------------------------------------------------------------------------------


@pytest.mark.proves("compose:redis.healthcheck.test", "compose:redis.environment.REDISCLI_AUTH")
def test_redis_healthcheck(redis):
    """Others wait until Redis answers. Without it, nobody knows when Redis answers, and nothing
    starts."""
    becomes_healthy(redis, "redis")


@pytest.mark.proves("compose:redis.healthcheck.interval")
def test_redis_healthcheck_interval(redis):
    """Others wait for the first look. Without it, the first look comes after 30 s, and the whole
    site waits for it."""
    looks_twice(redis, "redis")


@pytest.mark.proves("compose:redis.healthcheck.timeout")
def test_redis_healthcheck_timeout(redis):
    """It answers in milliseconds, or not at all. Without it, a Redis that hangs is given 30 s each
    time."""
    gives_up_after_five_seconds(redis, "redis", "redis-cli")


@pytest.mark.proves("compose:redis.healthcheck.retries")
def test_redis_healthcheck_retries(redis):
    """Loading a large file takes its time. Without it, three failures are enough: a Redis that
    loads its data for ten seconds is unhealthy, and `docker compose up` gives up."""
    is_patient(redis, "redis", "redis-cli")


@pytest.mark.proves("compose:redis.stop_grace_period")
def test_redis_stop_grace_period(redis):
    """Time to write what is not on the disk yet. Without it, a Redis that takes its time to write
    is killed after ten seconds."""
    becomes_healthy(redis, "redis")
    is_given_time(redis, "redis")


@pytest.mark.proves("compose:redis.restart")
def test_redis_restart(redis):
    """Without it, a Redis that crashes stays away."""
    becomes_healthy(redis, "redis")
    redis("exec", "-T", "redis", "redis-cli", "shutdown", check=False)
    comes_back(redis, "redis")


@pytest.mark.proves("compose:redis.security_opt")
def test_redis_security_opt(redis):
    """Without it, whoever gets into Redis may become root by a setuid program."""
    assert may_gain_no_rights(redis, "redis")


@pytest.mark.proves("compose:redis.logging", without="{driver: json-file}")
def test_redis_logging(redis):
    """Without it, Redis' log grows until the disk is full."""
    script = "for n = 1, 45000 do redis.log(redis.LOG_WARNING, string.rep('x', 1000)) end"
    becomes_healthy(redis, "redis")
    log_is_bounded(redis, "redis", "redis-cli", "eval", script, "0")


@pytest.mark.proves("compose:redis.command.requirepass", without='- ""')
def test_redis_requirepass(redis):
    """Whoever may send messages may run tasks. Without it, whoever reaches Redis may run any
    task."""
    becomes_healthy(redis, "redis")
    refused = redis("exec", "-T", "-e", "REDISCLI_AUTH=", "redis", "redis-cli", "dbsize")
    assert "NOAUTH" in refused.stdout


@pytest.mark.proves("compose:redis.command.appendonly", "compose:redis.volumes")
def test_redis_keeps_its_data(redis):
    """What waits outlives the container. Without it, all waiting tasks are gone with the container
    that held them."""
    becomes_healthy(redis, "redis")
    cli(redis, "set", "task", "waiting")
    redis("rm", "--stop", "--force", "redis")
    redis("up", "--detach", "redis")
    becomes_healthy(redis, "redis")
    assert cli(redis, "get", "task") == "waiting"


@pytest.mark.proves("compose:redis.command.save")
def test_redis_save(redis):
    """Without it, Redis writes snapshots of everything besides the append-only file."""
    becomes_healthy(redis, "redis")
    assert cli(redis, "config", "get", "save") == "save"


@pytest.mark.proves("compose:redis.command.maxmemory-policy", without="- allkeys-lru")
def test_redis_maxmemory_policy(redis):
    """Without it nothing changes as long as «noeviction» is Redis' default, as it is in Redis 8.
    With another policy a full Redis throws tasks away and says nothing."""
    becomes_healthy(redis, "redis")
    cli(redis, "set", "task", "waiting")
    cli(redis, "config", "set", "maxmemory", "1")
    assert "OOM" in cli(redis, "set", "another", "task")
    assert cli(redis, "get", "task") == "waiting"


# --- The site's own containers --------------------------------------------------------------------


@pytest.mark.proves(
    "compose:db.environment.POSTGRES_USER", "compose:db.environment.POSTGRES_PASSWORD"
)
def test_db_login(built, db):
    """What DATABASE_URL says, too. Without it, no program of the site may log in."""
    becomes_healthy(db, "db")
    code = "from django.db import connection as c; c.ensure_connection(); print(c.is_usable())"
    assert in_a_container(built, f'python manage.py shell -v0 -c "{code}"') == "True\n"


def in_a_container(built, script, service="web"):
    """Run a script as the service would run. Returns what it prints."""
    options = ["run", "--rm", "--no-deps", "-T", service, "sh", "-c", script]
    return built(*options, check=False).stdout


@pytest.mark.proves("compose:app.init")
def test_init(built):
    """Without it, process 1 is the program itself: orphans are buried by nobody."""
    assert "init" in in_a_container(built, "cat /proc/1/comm")


@pytest.mark.proves("compose:app.read_only")
def test_read_only(built):
    """Without it, whoever gets into the site may change files of the container."""
    assert in_a_container(built, "touch /state/x || echo refused") == "refused\n"


@pytest.mark.proves("compose:app.tmpfs")
def test_tmpfs(built):
    """The root file system is read-only. Without it, nothing can write temporary files: uploads
    beyond 2.5 MB fail."""
    assert in_a_container(built, "touch /tmp/x && echo written") == "written\n"


@pytest.mark.proves("compose:worker.tmpfs")
def test_worker_tmpfs(built):
    """The root file system is read-only. Without it, supervisord has no place for its socket, and
    workers none for their heartbeat."""
    script = "touch /tmp/x /app/var/x /state/heartbeats/x && echo written"
    assert in_a_container(built, script, "worker") == "written\n"


@pytest.mark.proves("compose:app.security_opt")
def test_security_opt(built):
    """Without it, whoever gets into the site may become root by a setuid program."""
    assert "NoNewPrivs:\t1\n" in in_a_container(built, "cat /proc/self/status")


@pytest.mark.proves("compose:app.cap_drop")
def test_cap_drop(built):
    """The site's programs need none. Without it, root in the container has fourteen capabilities
    over what it can reach."""
    assert "CapBnd:\t0000000000000000\n" in in_a_container(built, "cat /proc/self/status")


@pytest.mark.proves(
    "compose:app.environment.DEBUG",
    "compose:app.environment.DATABASE_URL",
    "compose:app.environment.CELERY_BROKER_URL",
)
def test_environment(built):
    """Without it, the settings' own default counts: no DEBUG, with which nothing starts as long as
    SECRET_KEY is not set; SQLite in each container; Redis on its localhost, where none is."""
    code = "print(s.DEBUG, database['HOST'], *database['OPTIONS'], s.CELERY_BROKER_URL)"
    code = f"from django.conf import settings as s; database = s.DATABASES['default']; {code}"
    assert in_a_container(built, f'python manage.py shell -v0 -c "{code}"').split() == [
        "True",
        "db",
        "prepare_threshold",
        "redis://:only-for-development@redis:6379/0",
    ]


@pytest.mark.proves("compose:app.volumes")
def test_volumes(built):
    """Written by one container and served by another. Without it, web cannot hand out what workers
    have written."""
    in_a_container(built, "touch /state/media/x /state/exports/x", "worker")
    found = in_a_container(built, "ls /state/media/x /state/exports/x")
    assert found.split() == ["/state/exports/x", "/state/media/x"]


@pytest.fixture
def alone(built):
    """Start one service without those it needs: ``alone("web")``."""

    def start(service):
        built("rm", "--stop", "--force")
        built("up", "--detach", "--no-deps", service)
        return built

    return start


@pytest.mark.proves("compose:app.logging", without="&logging {driver: json-file}")
def test_logging(alone):
    """Without it, the log of each container grows until the disk is full."""
    write = "head -c 45000000 /dev/zero | tr '\\0' x | fold -w 1000 > /proc/1/fd/1"
    log_is_bounded(alone("flower"), "flower", "sh", "-c", write)


@pytest.mark.proves("compose:app.restart")
def test_restart(alone):
    """Without it, a container that crashes stays away."""
    stack = alone("web")
    wait_slowly(lambda: "Booting worker" in stack("logs", "web").stdout, "gunicorn")
    stack.signal("web", "KILL", "gunicorn", check=False)
    comes_back(stack, "web")


@pytest.mark.proves("compose:migrate.restart")
def test_migrate_restart(alone):
    """Without it, migrate has the others' «unless-stopped»: it starts again and again."""
    stack = alone("migrate")
    migrate = container(stack, "migrate")
    wait_slowly(lambda: stack.inspect(migrate, ".State.FinishedAt") > "0002", "the end")
    assert stack.inspect(migrate, ".State.Status") == "exited"
    assert stack.inspect(migrate, ".RestartCount") == 0


@pytest.mark.proves("compose:web.healthcheck.test")
def test_web_healthcheck(alone):
    """The page asks the database, too. Without it, a site that cannot reach its database counts as
    well."""
    stack = alone("web")
    wait_slowly(
        lambda: "503" in str(health(stack, "web")["Log"]), lambda: str(health(stack, "web"))
    )


@pytest.mark.proves("compose:worker.healthcheck.test")
def test_worker_healthcheck(built):
    """A worker is alive as long as its heartbeat's file is fresh. Without it, the probe of web asks
    port 8000, where no worker answers: it is never healthy."""
    built("rm", "--stop", "--force")
    built("up", "--detach", "worker")
    becomes_healthy(built, "worker")


@pytest.mark.proves("compose:beat.healthcheck.test")
def test_beat_healthcheck(built):
    """Beat is asked by the broker. Without it, the probe of web asks port 8000, where no beat
    answers: it is never healthy."""
    built("rm", "--stop", "--force")
    built("up", "--detach", "beat")
    becomes_healthy(built, "beat")


@pytest.mark.proves("compose:flower.healthcheck.test")
def test_flower_healthcheck(alone):
    """Flower has a page for it, which asks for no password. Without it, the probe of web asks port
    8000, and Flower answers on 5555: it is never healthy."""
    becomes_healthy(alone("flower"), "flower")


@pytest.mark.proves(
    "compose:worker.healthcheck.<<", "compose:beat.healthcheck.<<", "compose:flower.healthcheck.<<"
)
def test_times_of_the_probes(built):
    """Each program has the times that web's probe has. Without it, Docker's count: the first look
    comes after 30 s, and `docker compose up --wait` waits for it."""
    services = ("worker", "beat", "flower")
    built("rm", "--stop", "--force")
    built("up", "--detach", *services)

    def looks():
        return {service: len(health(built, service)["Log"]) for service in services}

    wait_slowly(lambda: min(looks().values()) >= 1, lambda: f"a look: {looks()}", 25)


@pytest.mark.proves("compose:web.healthcheck.start_period")
def test_web_healthcheck_start_period(alone):
    """Without it, a site that takes more than 15 s to start is unhealthy, and `docker compose up
    --wait` fails."""
    stack = alone("web")
    wait_slowly(lambda: len(health(stack, "web")["Log"]) >= 3, "three looks")
    assert health(stack, "web")["Status"] == "starting"


@pytest.mark.proves("compose:web.stop_grace_period")
def test_web_stop_grace_period(alone):
    """Without it, gunicorn is killed after ten seconds, and open requests with it."""
    stack = alone("web")
    wait_slowly(lambda: "Booting worker" in stack("logs", "web").stdout, "gunicorn")
    is_given_time(stack, "web")


@pytest.mark.proves("compose:worker.stop_grace_period")
def test_worker_stop_grace_period(built):
    """Without it, a worker is killed after ten seconds, and its running tasks with it."""
    built("rm", "--stop", "--force")
    built("up", "--detach", "worker")
    becomes_healthy(built, "worker")
    is_given_time(built, "worker")


@pytest.mark.proves("compose:web.healthcheck.interval")
def test_web_healthcheck_interval(alone):
    """Without it, a web, worker, beat or Flower that hangs is seen half a minute later."""
    looks_often(alone("flower"), "flower")


@pytest.mark.proves("compose:web.healthcheck.timeout")
def test_web_healthcheck_timeout(alone):
    """A busy site may take some seconds to answer. Without it, a site that hangs is given 30 s each
    time."""
    stack = alone("web")
    wait_slowly(lambda: "Booting worker" in stack("logs", "web").stdout, "gunicorn")
    stack.signal("web", "STOP", "gunicorn")
    gives_up(stack, "web", 10)


@pytest.mark.proves("compose:web.environment.WEB_CONCURRENCY")
def test_web_concurrency(alone):
    """Without it, one process answers all requests."""
    stack = alone("web")
    wait_slowly(lambda: stack("logs", "web").stdout.count("Booting worker") == 2, "both", 30)


@pytest.mark.proves("compose:worker.environment.SLOW_WORKER")
def test_slow_worker(alone):
    """Whether this host serves «slow», which docker-compose.worker.yml says too. Without it,
    supervisord refuses docker/logs.conf, and no worker starts."""
    stack = alone("worker")
    wait_slowly(lambda: "spawned: 'slow'" in stack("logs", "worker").stdout, "its start", 30)


@pytest.mark.proves("compose:test.init")
def test_test_init(stack):
    """Without it, the processes that tests kill stay as zombies."""
    stack("--profile", "test", "build", "test")
    assert "init" in in_a_container(stack, "cat /proc/1/comm", "test")


# --- Order ----------------------------------------------------------------------------------------


def starts_after(stack, service, other, *, ended=False):
    """Whether a service was started when another one was healthy, or had ended."""
    started = stack.inspect(container(stack, service), ".State.StartedAt")
    if ended:
        ended_at = stack.inspect(container(stack, other), ".State.FinishedAt")
        return started > ended_at > "0002"  # 0001 while it runs
    first = next(look for look in health(stack, other)["Log"] if look["ExitCode"] == 0)
    return started > first["End"]


@pytest.fixture(scope="module")
def migrated_after_db(stacks):
    """Whether migrate waited, when both were started from nothing."""
    stack = stacks("docker-compose.yml")
    stack("build", "web")
    # Docker remembers five looks, so that the first is asked for at once.
    stack("up", "--detach", "db", "migrate")
    becomes_healthy(stack, "db")
    return starts_after(stack, "migrate", "db")


@pytest.mark.proves("compose:migrate.depends_on.db", without="{}")
def test_migrate_depends_on_db(migrated_after_db):
    """A migration needs a database that answers. Without it, the migration starts before PostgreSQL
    answers, and fails."""
    assert migrated_after_db


@pytest.mark.proves("compose:app.depends_on.migrate")
def test_depends_on_migrate(stacks):
    """Without it, beat and workers start on half a schema, and end with an error."""
    stack = stacks("docker-compose.yml")
    stack("build", "web")
    stack("up", "--detach")
    for service in APP:
        assert starts_after(stack, service, "migrate", ended=True)


LATE = """
services:
  migrate:
    command: "true"
  {broker}:
    healthcheck:
      interval: 15s
      start_period: 0s
"""


def waits_for_a_late(broker, stacks, *files):
    """Whether a worker waits for a broker that is known to be healthy after 15 s only."""
    stack = stacks(*files, "late.yml")
    (stack.folder / "late.yml").write_text(LATE.format(broker=broker))
    stack("build", "web")
    stack("up", "--detach", "worker")
    assert stack.containers(broker)
    becomes_healthy(stack, broker)
    assert starts_after(stack, "worker", broker)


@pytest.mark.proves("compose:app.depends_on.redis")
@pytest.mark.proves("compose:app.depends_on.redis", without="{condition: service_started}")
def test_depends_on_redis(stacks):
    """Programs need their broker. Without it, `docker compose up worker` starts no Redis. Without
    service_healthy, programs start before it answers."""
    waits_for_a_late("redis", stacks, "docker-compose.yml")


# --- RabbitMQ -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rabbit_stack(stacks):
    return stacks("docker-compose.yml", "docker-compose.rabbitmq.yml")


@pytest.fixture
def rabbitmq(rabbit_stack):
    rabbit_stack("up", "--detach", "--force-recreate", "rabbitmq")
    return rabbit_stack


@pytest.mark.proves("rabbitmq:rabbitmq.healthcheck.test")
def test_rabbitmq_healthcheck(rabbitmq):
    """Without it, nobody knows when RabbitMQ answers, and nothing starts."""
    becomes_healthy(rabbitmq, "rabbitmq")


@pytest.mark.proves("rabbitmq:rabbitmq.healthcheck.interval")
def test_rabbitmq_healthcheck_interval(rabbitmq):
    """Others wait for the first look. Without it, a RabbitMQ that hangs is seen half a minute
    later."""
    looks_often(rabbitmq, "rabbitmq")


@pytest.mark.proves("rabbitmq:rabbitmq.healthcheck.timeout")
def test_rabbitmq_healthcheck_timeout(rabbitmq):
    """A port answers at once, or not at all. Without it, a RabbitMQ that hangs is given 30 s each
    time."""
    gives_up_after_five_seconds(rabbitmq, "rabbitmq", "bash")


@pytest.mark.proves("rabbitmq:rabbitmq.healthcheck.start_period")
def test_rabbitmq_healthcheck_start_period(rabbitmq):
    """RabbitMQ takes longer to start than others. Without it, a RabbitMQ that takes more than 15 s
    to start is unhealthy, and `docker compose up` gives up."""
    replace_program(rabbitmq, "rabbitmq", "bash", "exit 1")
    wait_slowly(lambda: len(health(rabbitmq, "rabbitmq")["Log"]) >= 4, "four looks")
    assert health(rabbitmq, "rabbitmq")["Status"] == "starting"


@pytest.mark.proves("rabbitmq:rabbitmq.stop_grace_period")
def test_rabbitmq_stop_grace_period(rabbitmq):
    """Time to write what is not on the disk yet. Without it, a RabbitMQ that takes its time to
    write is killed after ten seconds."""
    becomes_healthy(rabbitmq, "rabbitmq")
    is_given_time(rabbitmq, "rabbitmq")


@pytest.mark.proves("rabbitmq:rabbitmq.restart")
def test_rabbitmq_restart(rabbitmq):
    """Without it, a RabbitMQ that crashes stays away."""
    becomes_healthy(rabbitmq, "rabbitmq")
    rabbitmq("exec", "-T", "rabbitmq", "rabbitmqctl", "shutdown", "--no-wait", check=False)
    comes_back(rabbitmq, "rabbitmq")


@pytest.mark.proves("rabbitmq:rabbitmq.security_opt")
def test_rabbitmq_security_opt(rabbitmq):
    """Without it, whoever gets into RabbitMQ may become root by a setuid program."""
    assert may_gain_no_rights(rabbitmq, "rabbitmq")


@pytest.mark.proves("rabbitmq:rabbitmq.logging")
def test_rabbitmq_logging(rabbitmq):
    """Without it, RabbitMQ's log grows until the disk is full."""
    becomes_healthy(rabbitmq, "rabbitmq")
    line = "erlang:display(lists:duplicate(1000, $x))"
    write = f"lists:foreach(fun(_) -> {line} end, lists:seq(1, 45000))."
    log_is_bounded(rabbitmq, "rabbitmq", "rabbitmqctl", "eval", write)


@pytest.mark.proves("rabbitmq:rabbitmq.volumes", "rabbitmq:rabbitmq.hostname")
def test_rabbitmq_keeps_its_data(rabbitmq):
    """What waits outlives the container. Without it, a new container finds none of the messages
    that wait."""
    becomes_healthy(rabbitmq, "rabbitmq")
    rabbitmq.exec("rabbitmq", "rabbitmqctl", "add_vhost", "kept")
    rabbitmq("rm", "--stop", "--force", "rabbitmq")
    rabbitmq("up", "--detach", "rabbitmq")
    becomes_healthy(rabbitmq, "rabbitmq")
    assert "kept" in rabbitmq.exec("rabbitmq", "rabbitmqctl", "list_vhosts").split()


@pytest.fixture(scope="module")
def ordered_rabbit(rabbit_stack):
    rabbit_stack("build", "web")
    rabbit_stack("rm", "--stop", "--force")
    rabbit_stack("up", "--detach", *APP)
    return rabbit_stack


@pytest.mark.proves("rabbitmq:app.depends_on.migrate")
def test_rabbitmq_depends_on_migrate(ordered_rabbit):
    """!override leaves nothing of the other file's list. Without it, beat and workers start on half
    a schema, and end with an error."""
    # RabbitMQ takes longer to start than a migration: who waits for that one alone starts later.
    assert ordered_rabbit.containers("migrate")
    for service in APP:
        assert starts_after(ordered_rabbit, service, "migrate", ended=True)


@pytest.mark.proves("rabbitmq:app.depends_on.rabbitmq")
@pytest.mark.proves("rabbitmq:app.depends_on.rabbitmq", without="{condition: service_started}")
def test_rabbitmq_depends_on_rabbitmq(stacks):
    """Programs need their broker. Without it, `docker compose up worker` starts no RabbitMQ.
    Without service_healthy, programs start before it answers."""
    files = ("docker-compose.yml", "docker-compose.rabbitmq.yml")
    waits_for_a_late("rabbitmq", stacks, *files)


@pytest.mark.proves(
    "rabbitmq:rabbitmq.environment.RABBITMQ_DEFAULT_USER",
    "rabbitmq:rabbitmq.environment.RABBITMQ_DEFAULT_PASS",
    "rabbitmq:rabbitmq.environment.RABBITMQ_DEFAULT_VHOST",
)
def test_rabbitmq_login(rabbitmq):
    """What BROKER_USER and the others say, too. Without it, no program may log in, or finds no
    virtual host."""
    becomes_healthy(rabbitmq, "rabbitmq")
    ask = ("exec", "-T", "rabbitmq", "rabbitmqctl")
    login = rabbitmq(*ask, "authenticate_user", "blog", "only-for-development", check=False)
    assert login.returncode == 0
    assert "blog" in rabbitmq(*ask, "list_permissions", "-p", "blog", check=False).stdout.split()
