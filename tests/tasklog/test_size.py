"""The app stays small enough to be read as a whole."""

import ast
import re

from tests.services import ROOT

APP = ROOT / "tasklog"
A_MINUTE = 300  # words that a reader takes
HALF_AN_HOUR = 30  # minutes: what the app was meant to take


def words():
    """How many words each module has, by its path; nobody reads the generated migration."""
    modules = [path for path in APP.rglob("*.py") if path.parent.name != "migrations"]
    return {path.relative_to(APP): count(path.read_text()) for path in modules}


def count(code):
    """Count as one reads: no signs alone, as `=`, and no imports, which one looks up."""
    lines = code.splitlines()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return sum(any(map(str.isalpha, word)) for word in " ".join(lines).split())


def test_it_is_read_in_the_time_that_the_readme_says():
    readme = " ".join((APP / "README.md").read_text().split())
    most = int(re.search(r"has at most ([\d,]+) words", readme)[1].replace(",", ""))
    minutes = int(re.search(r"it is read in (\d+) minutes", readme)[1])
    total = sum(words().values())
    assert total <= most, f"{total:,} words. Make it simpler, or say so in README.md."
    assert round(most / A_MINUTE) == minutes
    assert most <= HALF_AN_HOUR * A_MINUTE


def test_the_reading_order_has_each_module_with_its_time():
    readme = (APP / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ((?:`[\w./]+`(?:, )?)+) \|", readme, re.MULTILINE)
    assert sum(int(minutes) for minutes, _ in rows) <= HALF_AN_HOUR
    left = words()
    for minutes, names in rows:
        listed = re.findall("`(.+?)/?`", names)
        modules = [path for path in left if path.parts[0] in listed]
        assert abs(sum(map(left.pop, modules)) / A_MINUTE - int(minutes)) < 1, names
    assert [path.name for path in left] == ["__init__.py"]
