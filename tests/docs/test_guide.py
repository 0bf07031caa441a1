"""The guide, played as written: its first four chapters, from an empty folder on."""

import ast

import pytest

from ..conftest import need
from .pages import ROOT
from .play import command_on_a_machine, fetch_packages, play

CHAPTERS = sorted((ROOT / "docs").glob("0[1-4]-*.md"))
# Playing takes some minutes, and the first test that asks for it waits.
pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("guide")


@pytest.fixture(scope="module")
def report(request, home):
    """What came of playing the chapters: see ``play``."""
    need(command_on_a_machine)
    wheels = fetch_packages(CHAPTERS, request.config.cache.mkdir("wheels-of-the-guide"))
    return need(lambda: play(CHAPTERS, home, wheels))


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_says_what_happens(report, chapter):
    assert "\n\n".join(report[chapter.name]["mistakes"]) == ""


def test_next_to_nothing_is_left_out(report):
    check_report(report)


def check_report(report):
    """Print what was executed, as `make test-docs` shows it; at most 3 % may be left out."""
    print(f"{'chapter':36} blocks  executed  compared  elsewhere  skipped")
    for name, entry in report.items():
        numbers = [entry[key] for key in ("blocks", "executed", "compared", "elsewhere")]
        print("{:36}{:>7}{:>10}{:>10}{:>11}{:>9}".format(name, *numbers, len(entry["skipped"])))
    skipped = [line for entry in report.values() for line in entry["skipped"]]
    print(*skipped, sep="\n")
    blocks = sum(entry["blocks"] for entry in report.values())
    executed = sum(entry["executed"] + entry["elsewhere"] for entry in report.values())
    assert blocks > 10
    assert executed + len(skipped) == blocks
    assert len(skipped) <= 0.03 * blocks


def parts(path):
    """Return the functions, calls and assignments at the top of a Python file, by name."""
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = ast.dump(node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found[ast.unparse(node.value.func)] = ast.dump(node)
        elif isinstance(node, ast.Assign):
            found[ast.unparse(node.targets[0])] = node.value
    return found


def test_the_reader_ends_with_the_celery_application_of_this_repository(report, home):
    """Each function and call that the chapters teach is the same; the repository has more."""
    theirs = parts(home / "home" / "blog" / "blog" / "celery.py")
    ours = parts(ROOT / "blog" / "celery.py")
    assert ast.unparse(theirs.pop("app")) == "Celery('blog')"
    assert set(theirs) >= {"debug_task", "square", "app.autodiscover_tasks"}
    assert {name: ours.get(name) for name in theirs} == theirs


def test_the_reader_ends_with_settings_of_this_repository(report, home):
    """Each Celery setting that the chapters teach is set here, to the same value if it is plain.

    But for the scheduler: this project's is a subclass of the one that chapter 3 shows.
    """
    theirs = parts(home / "home" / "blog" / "blog" / "settings.py")
    ours = parts(ROOT / "blog" / "settings.py")
    taught = [name for name in theirs if name.startswith("CELERY_")]
    assert len(taught) >= 6
    for name in taught:
        assert name in ours
        if isinstance(ours[name], ast.Constant) and name != "CELERY_BEAT_SCHEDULER":
            assert ast.unparse(ours[name]) == ast.unparse(theirs[name])
