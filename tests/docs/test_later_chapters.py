"""The later chapters of the guide, played as written, in a clone of this project."""

import pytest

from ..conftest import need
from .pages import ROOT
from .play import CLONE, play
from .test_guide import check_report

CHAPTERS = [
    path for path in sorted((ROOT / "docs").glob("[0-9][0-9]-*.md")) if CLONE in path.read_text()
]
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What came of playing the chapters: see ``play``."""
    folder = tmp_path_factory.mktemp("clone")
    return need(lambda: play(CHAPTERS, folder, folder))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_says_what_happens(report, chapter):
    assert "\n\n".join(report[chapter.name]["mistakes"]) == ""


def test_next_to_nothing_is_left_out(report):
    check_report(report)


def test_each_chapter_is_played():
    """None is left out because of its name."""
    numbered = set((ROOT / "docs").glob("[0-9][0-9]-*.md"))
    assert numbered - set(CHAPTERS) == set((ROOT / "docs").glob("0[1-4]-*.md"))
