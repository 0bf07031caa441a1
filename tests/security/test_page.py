"""docs/security.md: each row and each paragraph names its test, and each test is there."""

import re

import pytest

from tests.services import ROOT

PAGE = ROOT / "docs" / "security.md"

if not PAGE.exists():
    pytest.skip("an image has no docs", allow_module_level=True)

TEXT = PAGE.read_text()
TESTS = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", TEXT)


@pytest.mark.parametrize(("name", "path"), TESTS)
def test_a_named_test_is_there(name, path):
    assert f"\ndef {name}(" in (ROOT / path).read_text()


def test_each_statement_has_one():
    tables = re.findall(r"\| what is promised \| test \|\n\| --- \| --- \|\n((?:\|.*\n)+)", TEXT)
    assert len(tables) == TEXT.count("\n| what is promised |")
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 15
    assert [row for row in rows if "](../tests/" not in row] == []


def test_each_paragraph_of_what_is_promised_has_one():
    promised = TEXT.partition("\n## Who may do what\n")[2]
    paragraphs = [part for part in re.split(r"\n\n+", promised.strip()) if part[0] not in "#|"]
    assert len(paragraphs) > 3
    assert [part for part in paragraphs if "](../tests/" not in part] == []


def test_each_module_of_these_tests_is_on_the_page():
    modules = {path.name for path in (ROOT / "tests" / "security").glob("test_*.py")}
    named = {path.rpartition("/")[2] for _, path in TESTS}
    assert modules - named == {"test_page.py"}
