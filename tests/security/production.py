"""The site as in production, started by tests."""

import re

from tests.services import ROOT

HOST = "blog.example.org"
# What docker-compose.production.yml asks for, and what it sets itself.
GIVEN = {
    "SECRET_KEY": "x9" * 15 + "a-key-only-for-this-test-0123456789",
    "ALLOWED_HOSTS": HOST,
    "BROKER_PASSWORD": "broker4tests",
}


def variables():
    """Return the environment that docker-compose.production.yml gives the site's programs."""
    text = (ROOT / "docker-compose.production.yml").read_text()
    block = re.search(r"environment: &environment\n((?:    .*\n)+)", text)[1]
    found = dict(re.findall(r"^    ([A-Z_]+): (.+)$", block, re.MULTILINE))
    asked = {name for name, value in found.items() if value.startswith(f"${{{name}:?")}
    assert asked == set(GIVEN), f"tests give {set(GIVEN)}, and {asked} is asked for"
    return {name: GIVEN.get(name, value.strip('"')) for name, value in found.items()}


def addresses():
    """Return what docker-compose.yml adds to that: where database and broker are."""
    text = (ROOT / "docker-compose.yml").read_text()
    found = dict(re.findall(r"^    (DATABASE_URL|CELERY_BROKER_URL): (.+)$", text, re.MULTILINE))
    assert len(found) == 2
    return {name: re.sub(r"\$\{.+?\}", "letters4tests", url) for name, url in found.items()}


def start_site(starter, state, **env):
    """Start gunicorn with production settings, static files included.

    Args:
        starter (Starter): what starts it.
        state (Path): the site's folder, empty.
        **env: variables beside those of `variables`.

    Returns:
        Process: the site, with its address in ``url``.
    """
    env = {**variables(), "STATE_DIR": str(state), **env}
    collect = starter("python", "manage.py", "collectstatic", "--no-input", env=env)
    assert collect.wait(60) == 0, collect.output
    return starter.web(env=env)
