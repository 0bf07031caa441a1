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


def test_every_variable_of_the_example_file_reaches_the_site():
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


@pytest.mark.parametrize("name", PRODUCTION)
def test_production_needs(name):
    refused = compose(
        "config", files=[BASE, PRODUCTION_FILE], check=False, **{**PRODUCTION, name: ""}
    )
    assert refused.returncode != 0
    assert re.search(f"required variable {name} is missing a value: set it to ", refused.stderr)


@pytest.mark.parametrize("name", FURTHER_ENV)
def test_a_further_host_needs(name):
    env = {key: value for key, value in FURTHER_ENV.items() if key != name}
    refused = compose("config", files=[FURTHER], check=False, **env)
    assert refused.returncode != 0
    assert re.search(f"required variable {name} is missing a value: set it to ", refused.stderr)


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


def test_production_publishes_the_web_port_and_no_other(production):
    published = []
    for service in (*APP, "db", "redis"):
        (container,) = production.containers(service)
        for bindings in production.inspect(container, ".NetworkSettings.Ports").values():
            published += [(b["HostIp"], int(b["HostPort"])) for b in bindings or []]
    assert published == [("127.0.0.1", production.port)]


def test_production_has_no_demo_account_and_no_debug(production):
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


def test_a_further_host_joins_and_works(production, stacks):
    """Two Compose projects on one network: the second has workers, and nothing else."""
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
