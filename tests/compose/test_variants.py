"""The site on RabbitMQ, the site in production, and a further host that joins it."""

import json
import re
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest

from tests.services import ROOT

from .stack import APP, PRODUCTION, compose, wait_slowly

pytestmark = pytest.mark.timeout(900)

BASE = "docker-compose.yml"
RABBITMQ = "docker-compose.rabbitmq.yml"
PRODUCTION_FILE = "docker-compose.production.yml"
FURTHER = "docker-compose.worker.yml"
FURTHER_ENV = {
    "SECRET_KEY": PRODUCTION["SECRET_KEY"],
    "DATABASE_URL": f"postgres://blog:{PRODUCTION['POSTGRES_PASSWORD']}@db:5432/blog",
    "CELERY_BROKER_URL": f"redis://:{PRODUCTION['BROKER_PASSWORD']}@redis:6379/0",
}


class NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args, **kwargs):
        return None


@pytest.mark.parametrize(
    ("files", "env"),
    [
        ([BASE], {}),
        ([BASE, RABBITMQ], {}),
        ([BASE, PRODUCTION_FILE], PRODUCTION),
        ([BASE, PRODUCTION_FILE, RABBITMQ], PRODUCTION),
        ([FURTHER], FURTHER_ENV),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_each_combination_of_files_is_valid(files, env):
    printed = compose("--profile", "*", "config", files=files, **env)
    assert printed.stderr == "", "no warning"
    if env:
        assert "only-for-development" not in printed.stdout


@pytest.mark.proves(
    "compose:app.environment.SECRET_KEY",
    "compose:app.environment.ALLOWED_HOSTS",
    "compose:app.environment.CSRF_TRUSTED_ORIGINS",
    "compose:app.environment.HTTPS",
    "compose:app.environment.SITE_URL",
    "compose:app.environment.EMAIL_URL",
    "compose:app.environment.METRICS_TOKEN",
    "compose:app.environment.CELERY_RESULT_BACKEND",
    "compose:app.environment.CELERY_CACHE_BACKEND",
    "compose:app.environment.CACHE_URL",
    "compose:app.environment.TIME_ZONE",
    "compose:app.environment.LOG_LEVEL",
    "compose:app.environment.EXPORT_SECONDS",
    "compose:app.environment.EXPORT_KEEP_DAYS",
    "compose:app.environment.FEED_ALLOW_PRIVATE",
)
def test_every_variable_of_the_example_file_reaches_the_site():
    """What .env.example lists can be set here, too. Without it, what .env or the shell says reaches
    no program."""
    text = (ROOT / ".env.example").read_text()
    listed = set(re.findall(r"^#? ?([A-Z_]+)=", text, re.MULTILINE))
    # The image's own, of `make run` and the host, and RabbitMQ's, which the other file sets.
    listed -= {"STATE_DIR", "PORT", "FLOWER_PORT"}
    base, rabbitmq = (
        json.loads(compose("config", "--format", "json", files=files).stdout)["services"]
        for files in ([BASE], [BASE, RABBITMQ])
    )
    assert (
        listed - set(base["flower"]["environment"]) - set(rabbitmq["web"]["environment"]) == set()
    )


def configuration(*files, **env):
    """The services of Compose files, as Compose understands them."""
    return json.loads(compose("config", "--format", "json", files=files, **env).stdout)["services"]


@pytest.mark.proves(
    "compose:web.environment.<<", "compose:worker.environment.<<", "compose:flower.environment.<<"
)
def test_each_program_gets_what_all_have_in_common():
    """Beside what it has alone, what all have. Without it, it has neither database nor broker."""
    services = configuration(BASE)
    for name in (*APP, "migrate"):
        assert {"DATABASE_URL", "CELERY_BROKER_URL"} <= set(services[name]["environment"]), name


@pytest.mark.proves("compose:test.profiles")
def test_the_tests_are_started_by_name_alone():
    """`docker compose run test` is enough. Without it, `docker compose up` runs the tests beside
    the site."""
    assert "test" not in configuration(BASE)


@pytest.mark.proves(
    "rabbitmq:app.environment",
    "rabbitmq:migrate.environment",
    "rabbitmq:broker.CELERY_BROKER_URL",
    "rabbitmq:broker.BROKER_USER",
    "rabbitmq:broker.BROKER_PASSWORD",
    "rabbitmq:broker.BROKER_HOST",
    "rabbitmq:broker.BROKER_PORT",
    "rabbitmq:broker.BROKER_VHOST",
)
def test_each_program_gets_the_address_of_rabbitmq():
    """A part of RabbitMQ's address, for each program. Without it, the address lacks that part, or a
    program looks for Redis."""
    parts = {"USER": "blog", "PASSWORD": "only-for-development", "HOST": "rabbitmq"}
    parts |= {"PORT": "5672", "VHOST": "blog"}
    address = {f"BROKER_{name}": value for name, value in parts.items()}
    for name in (*APP, "migrate"):
        given = configuration(BASE, RABBITMQ)[name]["environment"]
        assert address.items() | {("CELERY_BROKER_URL", "")} <= given.items(), name


@pytest.mark.proves("rabbitmq:redis", fails="undefined volume")
@pytest.mark.proves(
    "rabbitmq:web",
    "rabbitmq:worker",
    "rabbitmq:beat",
    "rabbitmq:flower",
    fails="depends on undefined service",
)
def test_there_is_no_redis_beside_rabbitmq():
    """One broker is enough. Without it, Compose refuses the files: Redis, or a program that waits
    for it, is left over."""
    assert "redis" not in configuration(BASE, RABBITMQ)


@pytest.mark.proves(
    "production:app.environment.SECRET_KEY",
    "production:app.environment.ALLOWED_HOSTS",
    "production:app.environment.BROKER_PASSWORD",
    "production:db.environment.POSTGRES_PASSWORD",
    "production:flower.environment.FLOWER_BASIC_AUTH",
)
@pytest.mark.parametrize("name", PRODUCTION)
def test_production_needs(name):
    """A value of one's own, without which nothing starts. Without one of these lines, production
    starts with what everybody knows, or half started."""
    refused = compose(
        "config", files=[BASE, PRODUCTION_FILE], check=False, **{**PRODUCTION, name: ""}
    )
    assert refused.returncode != 0
    assert re.search(f"required variable {name} is missing a value: set it to ", refused.stderr)


@pytest.mark.proves(
    "production:migrate",
    "production:web",
    "production:worker",
    "production:beat",
    "production:flower.environment.<<",
)
def test_each_program_gets_the_values_of_production():
    """No program is left out. Without it, one runs with the values of development: with DEBUG."""
    services = configuration(BASE, PRODUCTION_FILE, **PRODUCTION)
    for name in (*APP, "migrate"):
        given = services[name]["environment"]
        assert (given["DEBUG"], given["SECRET_KEY"]) == ("false", PRODUCTION["SECRET_KEY"]), name


@pytest.mark.proves(
    "further:worker.environment.SECRET_KEY",
    "further:worker.environment.DATABASE_URL",
    "further:worker.environment.CELERY_BROKER_URL",
)
@pytest.mark.parametrize("name", FURTHER_ENV)
def test_a_further_host_needs(name):
    """The first host's value, without which nothing starts. Without one of these lines, it starts
    with development's value, and joins nothing."""
    env = {key: value for key, value in FURTHER_ENV.items() if key != name}
    refused = compose("config", files=[FURTHER], check=False, **env)
    assert refused.returncode != 0
    assert re.search(f"required variable {name} is missing a value: set it to ", refused.stderr)


@pytest.mark.proves("further:worker.depends_on", fails="depends on undefined service")
def test_a_further_host_waits_for_nothing_of_its_own():
    """Database and broker run on the first host. Without it, Compose refuses the file: what the
    worker waits for runs on the first host."""
    compose("config", "--quiet", files=[FURTHER], **FURTHER_ENV)


@pytest.fixture(scope="module")
def further_host(stacks):
    """A further host, of which nothing runs. ``further_host(code, …)`` runs Python there."""
    stack = stacks(FURTHER)
    stack("build", **FURTHER_ENV)

    def run(code, **env):
        command = ["run", "--rm", "--no-deps", "-T", "worker", "python", "manage.py", "shell"]
        code = f"from django.conf import settings; print({code})"
        return stack(*command, "-v0", "-c", code, check=False, **{**FURTHER_ENV, **env})

    return run


@pytest.mark.proves("further:worker.environment.DEBUG")
def test_a_further_host_is_one_of_production(further_host):
    """The first host is in production. Without it, the settings are those of development."""
    assert further_host("settings.DEBUG").stdout.split() == ["False"]


@pytest.mark.proves("further:worker.environment.ALLOWED_HOSTS")
def test_a_further_host_answers_nobody_and_needs_no_name(further_host):
    """Without it, the settings refuse to start: «Set ALLOWED_HOSTS»."""
    answer = further_host("settings.ALLOWED_HOSTS")
    assert answer.returncode == 0, answer.stderr


@pytest.mark.proves(
    "further:worker.environment.BROKER_USER",
    "further:worker.environment.BROKER_PASSWORD",
    "further:worker.environment.BROKER_HOST",
    "further:worker.environment.BROKER_PORT",
    "further:worker.environment.BROKER_VHOST",
)
def test_a_further_host_joins_a_rabbitmq(further_host):
    """Where the first host's broker is RabbitMQ. Without one of these lines, the address of
    RabbitMQ lacks that part."""
    parts = {"USER": "u", "PASSWORD": "p", "HOST": "rabbit.example", "PORT": "5673", "VHOST": "v"}
    env = {f"BROKER_{name}": value for name, value in parts.items()}
    answer = further_host("settings.CELERY_BROKER_URL", CELERY_BROKER_URL="", **env)
    assert answer.stdout.split() == ["amqp://u:p@rabbit.example:5673/v"], answer.stderr


@pytest.fixture(scope="module")
def rabbitmq(stacks):
    """The site on RabbitMQ, with characters in the password that a URL would trip over."""
    stack = stacks(BASE, RABBITMQ, BROKER_PASSWORD="p@ss/w+rd?1", BROKER_VHOST="/")
    stack.up("--build")
    return stack


def test_rabbitmq_as_broker(rabbitmq):
    assert rabbitmq.health() == {(service, "healthy") for service in (*APP, "db", "rabbitmq")}
    ids = rabbitmq.send("[add.delay(1, 2, seconds=0), export_blog.delay(owner_id=1)]")
    rabbitmq.wait_for_states(ids, SUCCESS=2)
    assert "redis" not in rabbitmq("logs", "worker").stdout


@pytest.mark.parametrize("name", ["USER", "PASSWORD", "HOST", "PORT", "VHOST"])
def test_a_missing_part_of_rabbitmqs_address_is_named(rabbitmq, name):
    missing = f"BROKER_{name}"
    refused = rabbitmq("run", "--rm", "--no-deps", "migrate", check=False, **{missing: ""})
    assert refused.returncode != 0
    assert f"{missing} not set. RabbitMQ needs all of" in refused.stderr + refused.stdout


def test_rabbitmq_restarts_in_the_middle_of_work(rabbitmq):
    ids = rabbitmq.send("[add.delay(1, n, seconds=3) for n in range(8)]")
    wait_slowly(lambda: rabbitmq.states(ids).get("STARTED") == 2, "tasks at work", 30)
    rabbitmq("restart", "rabbitmq")
    rabbitmq.up()
    rabbitmq.wait_for_states(ids, SUCCESS=8)


@pytest.fixture(scope="module")
def production(stacks):
    stack = stacks(BASE, PRODUCTION_FILE, **PRODUCTION)
    stack.up("--build")
    return stack


@pytest.mark.proves("production:flower.ports")
def test_production_publishes_the_web_port_and_no_other(production):
    """Without it, Flower's pages are on the host's loopback, its /metrics for all who log in."""
    published = []
    for service in (*APP, "db", "redis"):
        (container,) = production.containers(service)
        for bindings in production.inspect(container, ".NetworkSettings.Ports").values():
            published += [(b["HostIp"], int(b["HostPort"])) for b in bindings or []]
    assert published == [("127.0.0.1", production.port)]


@pytest.mark.proves("production:app.environment.DEBUG")
def test_production_has_no_demo_account_and_no_debug(production):
    """Others reach this site. Without it, there is an account that everybody knows, and errors
    show the settings."""
    assert production.sql("SELECT count(*) FROM auth_user") == [["0"]]
    settings = "from django.conf import settings; print(settings.DEBUG, settings.HTTPS)"
    printed = production.exec("web", "python", "manage.py", "shell", "-v0", "-c", settings)
    assert printed.split() == ["False", "True"]


def test_production_answers_the_proxy_in_front_and_redirects_others(production):
    def ask(path, **headers):
        request = Request(production.url + path, headers={"Host": "blog.example.org", **headers})
        try:
            with build_opener(NoRedirect).open(request, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.headers["Location"]

    assert ask("/") == (301, "https://blog.example.org/")
    behind_proxy = {"X-Forwarded-Proto": "https"}
    status, page = ask("/", **behind_proxy)
    assert status == 200
    style = re.search(r'"(/static/posts/site\.[0-9a-f]+\.css)"', page)[1]
    assert ask(style, **behind_proxy)[0] == 200


@pytest.mark.proves("further:worker.environment.SLOW_WORKER")
def test_a_further_host_joins_and_works(production, stacks):
    """Two Compose projects on one network: the second has workers, and nothing else.

    Without it, it takes exports from the queue «slow», which nobody can download.
    """
    further = stacks(FURTHER, "network.yml", **FURTHER_ENV)
    (further.folder / "network.yml").write_text(
        f"networks: {{default: {{name: {production.name}_default, external: true}}}}"
    )
    further.up("--build")
    assert further.health() == {("worker", "healthy")}
    hosts = {
        stack.inspect(stack.containers("worker")[0], ".Config.Hostname")
        for stack in (production, further)
    }
    ids = production.send("[add.delay(1, n, seconds=1) for n in range(20)]")
    production.wait_for_states(ids, SUCCESS=20)
    assert set(production.workers_of(ids)) == {f"celery@{host}" for host in hosts}
    status = further.exec("worker", "supervisorctl", "status", "celery:slow", check=False)
    assert status.split()[1] == "STOPPED"
