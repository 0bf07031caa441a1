"""The guide's links, names and table of coverage; nothing is played here."""

import os
import re
import subprocess

import pytest

from tests.services import BIN

from .checks import check_coverage, check_links, check_names, rows_of
from .pages import ROOT, Page, check_test

DOCS = ROOT / "docs"
pytestmark = pytest.mark.skipif(
    not (ROOT / "Dockerfile").exists(), reason="pages link to files that an image has not"
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
WRITTEN = {
    block.notes[key]
    for path in PAGES
    for block in Page(path).blocks
    for key in ("file", "end of")
    if key in block.notes
}


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request):
    return Page(request.param)


def test_each_block_says_what_it_is(page):
    """And what it quotes is so. The same as when it is played, but within milliseconds."""
    if page.path.name[0].isdigit():
        for block in page.blocks:
            block.check()


def test_links_lead_somewhere(page):
    assert list(check_links(page)) == []


def test_names_exist(page):
    """Settings, commands of manage.py, celery and make, modules, files."""
    assert list(check_names(page, WRITTEN)) == []


def test_each_row_of_the_table_of_coverage_has_a_proof():
    assert list(check_coverage(DOCS / "coverage.md")) == []


def test_the_head_of_the_table_counts_right():
    text = (DOCS / "coverage.md").read_text()
    rows = rows_of(text)
    missing = sum(proof.startswith("not yet") for *_, proof in rows)
    assert f"{len(rows)} rows, {len(rows) - missing} of them proven" in text


def rows_of_operations():
    """Each row of its tables: [cell, …]. A first row of a table names its columns."""
    lines = (DOCS / "operations.md").read_text().splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]


def test_each_row_in_operations_names_tests_that_exist():
    rows = [row for row in rows_of_operations() if row[-1] not in ("test", "---")]
    assert len(rows) > 30
    for *_, tests in rows:
        named = tests.split(", ")
        assert all(re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", test) for test in named), tests
        for test in named:
            check_test(test.strip("`"))


def test_each_test_of_a_fault_is_in_operations():
    named = {test for *_, tests in rows_of_operations() for test in tests.split(", ")}
    there = {
        f"`{path.relative_to(ROOT).as_posix()}::{name}`"
        for path in (ROOT / "tests" / "system" / "faults").glob("test_*.py")
        for name in re.findall(r"(?m)^def (test_\w+)", path.read_text())
    }
    assert there - named == set()


def test_each_figure_in_operations_is_in_the_metrics():
    there = set(re.findall(r'gauge\("(\w+)"', (ROOT / "posts" / "queues.py").read_text()))
    named = set(re.findall(r"`(celery_\w+)`", (DOCS / "operations.md").read_text()))
    assert len(named) > 5
    assert named - there == set()


def test_redis_has_no_limit_unless_you_set_one():
    """As operations.md says: else its row about a full Redis may come true by itself."""
    files = [*ROOT.glob("docker-compose*.yml"), *ROOT.glob("supervisord*.conf")]
    assert [path.name for path in files if re.search(r"maxmemory(?!-)", path.read_text())] == []


def test_the_site_of_the_guide_is_built_without_a_warning(tmp_path):
    """`make docs`."""
    command = [BIN / "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    build = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert (build.returncode, build.stderr) == (0, "")
    assert (tmp_path / "search" / "search_index.json").exists()
    assert "supervisord" in (tmp_path / "04-workers-in-the-background" / "index.html").read_text()
