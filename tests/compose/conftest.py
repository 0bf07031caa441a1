"""Whole sites in containers, which take minutes: for `make test-compose`, not for `make test`."""

import os

import pytest

from tests.conftest import need

from .stack import Stack, find_docker

# Set by `make test-compose`, and by `make prove-compose`, whose proofs take minutes more.
collect_ignore_glob = [] if os.environ.get("COMPOSE_TESTS") else ["test_*.py"]
if os.environ.get("COMPOSE_TESTS") != "all":
    collect_ignore_glob.append("test_lines.py")


@pytest.fixture(scope="session", autouse=True)
def docker():
    """The path of `docker`; all tests here are skipped where no engine answers."""
    return need(find_docker)


@pytest.fixture(scope="module")
def stacks(docker):
    """Make stacks that end with the module: ``stacks("docker-compose.yml", DEBUG="false")``."""
    made = []

    def make(*files, **env):
        made.append(Stack(*files, **env))
        return made[-1]

    yield make
    for stack in reversed(made):
        stack.down()
