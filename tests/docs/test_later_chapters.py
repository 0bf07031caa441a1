"""The later chapters of the guide, played as written, in a clone of this project."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..conftest import need
from .pages import ROOT, check_test
from .play import CLONE, command_on_a_machine, fetch_packages, play
from .test_guide import check_report

# In a page that another test plays, such as one with Docker.
PLAYED_BY = re.compile(r"<!-- played by: (.+?) -->")
NUMBERED = sorted((ROOT / "docs").glob("[0-9][0-9]-*.md"))
ELSEWHERE = {path: found[1] for path in NUMBERED if (found := PLAYED_BY.search(path.read_text()))}
CHAPTERS = [path for path in NUMBERED if CLONE in path.read_text() and path not in ELSEWHERE]
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def report(request, tmp_path_factory):
    """What came of playing the chapters: see ``play``."""
    need(command_on_a_machine)
    wheels = fetch_packages(CHAPTERS, request.config.cache.mkdir("wheels-of-the-guide"))
    # Each half on a machine of its own, at the same time: they mostly wait.
    half = len(CHAPTERS) // 2 + 1
    with ThreadPoolExecutor() as pool:
        halves = [
            pool.submit(play, chapters, tmp_path_factory.mktemp("clone"), wheels)
            for chapters in (CHAPTERS[:half], CHAPTERS[half:])
        ]
    return {name: entry for played in halves for name, entry in need(played.result).items()}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_says_what_happens(report, chapter):
    assert "\n\n".join(report[chapter.name]["mistakes"]) == ""


def test_next_to_nothing_is_left_out(report):
    check_report(report)


def test_each_chapter_is_played():
    """None is left out because of its name."""
    first = set((ROOT / "docs").glob("0[1-4]-*.md"))
    assert set(NUMBERED) == first | set(ELSEWHERE) | set(CHAPTERS)
    for test in ELSEWHERE.values():
        check_test(test)
