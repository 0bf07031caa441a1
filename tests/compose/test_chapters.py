"""The chapters of the guide whose commands need Docker, played as written."""

import os
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.docs.play import fetch_packages, play
from tests.docs.test_guide import check_report

from ..conftest import need
from .stack import clean_environment

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def play_chapter(request, stacks, tmp_path):
    """Play a chapter, with a Docker project and ports of the test's own, and expect no mistake."""

    def play_it(name):
        chapter = ROOT / "docs" / name
        this_test = f"tests/compose/test_chapters.py::{request.node.name}"
        assert f" by: {this_test} -->" in chapter.read_text()
        config = os.environ.get("DOCKER_CONFIG", Path.home() / ".docker")
        env = clean_environment(**stacks("docker-compose.yml").env) | {
            "DOCKER_CONFIG": str(config),
            "PLAYED_BY": this_test,
        }
        wheels = fetch_packages([chapter], request.config.cache.mkdir("wheels-of-the-guide"))
        report = need(lambda: play([chapter], tmp_path, wheels, patience=300, env=env))
        assert "\n\n".join(report[name]["mistakes"]) == ""
        check_report(report)

    return play_it


def test_a_copy_in_containers(play_chapter):
    play_chapter("15-copy-it.md")


def test_compose_and_production(play_chapter):
    play_chapter("13-compose-and-production.md")
