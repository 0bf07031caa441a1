"""The tests of the guide find what is wrong: pages with deliberate mistakes, each of them named."""

import ast
import re

import pytest

from ..conftest import need
from .checks import SECTIONS, check_coverage, check_links, check_names
from .compare import difference
from .pages import ROOT, Mistake, Page, part_of
from .play import changed, play, split

RIGHT = """
# Right

```console
$ mkdir place
$ cd place
$ echo one; \\
echo two
one
two
$ false
$ echo $?
1
$ hostname; whoami > /dev/null; pwd
laptop
/home/you/place
$ echo 0aeb5a1d-157d-4fcd-8508-a8bf70ba2b70 at 2020-01-01 10:00:00,123
1111aaaa-157d-4fcd-8508-a8bf70ba2b70 at 2026-11-20 11:09:18,000
```

Write `a/file.txt`:

<!-- file: a/file.txt -->
```text
first
second
```

Change `a/file.txt`, and add to the end of `a/file.txt`:

<!-- file: a/file.txt -->
```diff
 first
-second
+third
```

Add to `a/file.txt`:

<!-- end of: a/file.txt -->
```text
last
```

```console
$ cat a/file.txt
first
...
last
```

<!-- terminal: python, keeps running -->
```console
$ python3 -q
```

<!-- terminal: python -->
```pycon
>>> for number in range(2):
...     print(number)
...
0
1
>>> 1 / 0
Traceback (most recent call last):
...
ZeroDivisionError: ...
>>> exit()
```

<!-- terminal: server, keeps running -->
```console
$ redis-server
...
... Ready to accept connections...
```

```console
$ redis-cli ping
PONG
```

<!-- terminal: server -->
```console
^C
...
```

<!-- terminal: talker, keeps running -->
```console
$ seq 40000; touch said; sleep 100
1
2
```

```console
$ until test -e ~/said; do sleep 0.1; done
$ pkill sleep
```

<!-- terminal: talker -->
```console
...
40000
Terminated
$ echo And now?
And now?
```

<!-- not run: shows how a reason is counted -->
```console
$ reboot
```

<!-- tested by: tests/docs/test_runner.py::test_a_right_page_has_no_mistake -->
```console
$ make test-docs
```

<!-- from: blog/__init__.py -->
```python
# Loads the Celery application with Django, so that @shared_task binds to it in every process.
from .celery import app as celery_app

__all__ = ("celery_app",)
```
"""

# What the page says, and what its writer is told.
WRONG = [
    ("```console\n$ echo 25\n26\n```", "after 'echo 25':"),
    ("```console\n$ false\n```", "'false' ended with status 1"),
    ("```console\n$ sleep 100\n```", "the end of 'sleep 100' did not come"),
    ("```text\nwhat is this?\n```", "a text block is a file, a part of one"),
    ("```\nand this?\n```", "a nameless block is a file, a part of one"),
    ("<!-- not run -->\n```console\n$ true\n```", "the note 'not run' says nothing"),
    ("<!-- termnal: x -->\n```console\n$ true\n```", "unknown note 'termnal'"),
    ("<!-- terminal: a, forever -->\n```console\n$ true\n```", "the note says 'forever'"),
    ("<!-- terminal: b -->\n```console\nsome output\n```", "nothing runs in this terminal"),
    ("<!-- terminal: c, keeps running -->\n```console\n$ true\nx\n```", "does not keep running"),
    ("<!-- terminal: d, keeps running -->\n```console\n$ sleep 100\n```", None),
    ("<!-- terminal: d -->\n```console\n$ true\n```", "'sleep 100' still runs in this terminal"),
    ("<!-- terminal: d -->\n```console\nnever said\n```", "-never said"),
    ("<!-- terminal: e -->\n```pycon\n>>> 1\n1\n```", "no Python shell runs in this terminal"),
    ("<!-- terminal: f, keeps running -->\n```console\n$ python3 -q\n```", None),
    ("<!-- terminal: f -->\n```pycon\n>>> 1 + 1\n3\n>>> exit()\n```", "after '1 + 1':"),
    ("Nameless:\n\n<!-- file: a.txt -->\n```text\na\n```", "does not name `a.txt`"),
    ("`a.txt`:\n\n<!-- file: a.txt -->\n```text\na\n```", None),
    ("`a.txt`:\n\n<!-- file: a.txt -->\n```diff\n-b\n+c\n```", "do not stand in the file"),
    ("`b.txt`:\n\n<!-- file: b.txt -->\n```diff\n-b\n+c\n```", "No such file"),
    ("<!-- from: blog/celery.py: square -->\n```python\nn * n\n```", "the listing differs from"),
    ("<!-- from: blog/celery.py: cube -->\n```python\nn\n```", "has no part 'cube'"),
    ("<!-- from: blog/celry.py -->\n```python\nn\n```", "there is no file blog/celry.py"),
    ("<!-- tested by: tests/docs/test_runner.py::test_x -->\n```console\n$ y\n```", "has no test"),
    ("<!-- page: http://127.0.0.1:9/ -->\n```text\nHello\n```", "refused"),
]  # fmt: skip


def play_text(text, folder, patience=60):
    page = folder / "page.md"
    page.write_text(text)
    return need(lambda: play([page], folder, folder, patience))["page.md"]


def test_a_right_page_has_no_mistake(folder):
    report = play_text(RIGHT, folder)
    assert report["mistakes"] == []
    assert (report["blocks"], report["executed"], report["compared"]) == (16, 14, 8)
    assert report["elsewhere"] == 1
    assert report["skipped"] == ["page.md:111: shows how a reason is counted"]


def test_each_mistake_of_a_wrong_page_is_named_with_its_line(folder):
    text, expected = "# Wrong\n", []
    for block, mistake in WRONG:
        line = text.count("\n") + block[: block.index("```")].count("\n") + 2
        expected += [(line, mistake)] if mistake else []
        text += f"\n{block}\n"
    mistakes = play_text(text, folder, patience=10)["mistakes"]
    assert len(mistakes) == len(expected), "\n".join(mistakes)
    for found, (line, mistake) in zip(mistakes, expected, strict=True):
        assert found.startswith(f"page.md:{line}: ")
        assert mistake in found


def test_what_is_still_running_when_a_page_ends_must_stop(folder):
    """A program that Ctrl-C does not end would be there in the next chapter."""
    command = "trap '' INT; echo ready; sleep 100"
    text = f"<!-- terminal: a, keeps running -->\n```console\n$ {command}\nready\n```\n"
    (mistake,) = play_text(text, folder, patience=5)["mistakes"]
    assert f'the end of "{command}" did not come' in mistake


@pytest.mark.parametrize(
    ("printed", "output"),
    [
        ("in 0.1234s: 25", "in 1.5e-05s: 25"),
        ("celery 5.7.0", "celery 5.10.1"),
        ("[12345] pid: 7", "[12345] pid: 8"),
        ("<Task at 0x7f1c2e5d3a90>", "<Task at 0xfff000fff0>"),
        ("a\n...\nz", "a\nz"),
        ("a\n...\nz", "a\nb\nc\nz"),
        ("a ... z", "a b c z"),
        ("\x1b[1;32mgreen\x1b[0m  \n", "green"),
        ("Nov. 20, 2026, 11:09 a.m.", "May 1, 2027, noon"),
    ],
)
def test_what_counts_as_the_same(printed, output):
    assert difference(printed, output) is None


@pytest.mark.parametrize(
    ("printed", "output"),
    [
        ("25", "26"),
        ("25", "25\n26"),
        ("a\nb", "a"),
        ("127.0.0.1", "127.0.0.2"),
        ("a\n...\nz", "a\nb"),
        ("a ... z", "a\nz"),
        ("succeeded in 0.1s: 25", "succeeded in 0.1s: 26"),
        ("1 node online.", "2 nodes online."),
        ("redis://localhost:6379/0", "redis://localhost:6379/1"),
    ],
)
def test_what_counts_as_different(printed, output):
    assert difference(printed, output)


def test_hunks_of_a_diff():
    assert changed("a\nb\nc\nd\n", " a\n+x\n...\n-c\n+y\n") == "a\nx\nb\ny\nd\n"
    with pytest.raises(Mistake, match="exactly once"):
        changed("a\na\n", "-a\n+b\n")


def test_steps_of_a_session():
    assert list(split("out\n$ a \\\nb\nc\n^C\nd", "console")) == [
        (None, "out"),
        ("a \\\nb", "c"),
        ("^C", "d"),
    ]


def test_parts_of_files():
    assert part_of("blog/celery.py: square").startswith("@app.task\ndef square(n):")
    program = part_of("supervisord.conf: [program:slow]")
    assert program.startswith("[program:slow]\n")
    assert "\ncommand=" in program
    assert "[eventlistener" not in program
    assert part_of("mkdocs.yml: theme").startswith("theme:\n  name: material")
    assert "plugins" not in part_of("mkdocs.yml: theme")


PAGE = """# A page

[a](page.md#a-page) [b](page.md#b) [c](nothing.md) ![](x.png)
"""
NAMES = """`CELERY_BROKER_URL` `CELERY_BROKER_URI`
`python manage.py migrate` `python manage.py imigrate`
`celery -A blog worker` `celery -A blog walker`
`make test` `make tests`
`posts.tasks.basics.add` `posts.tasks.basics.subtract` `celery.result.AsyncResult.get`
`blog/celery.py` `blog/celry.py` `made/here.py`
`EXPORT_SECONDS` `TIME_ZONE` `EXPORT_SECCONDS`
"""


def test_dead_links_and_pictures_without_words_are_named(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    with pytest.raises(Mistake, match=r"page\.md:3: a picture without a description"):
        Page(path)
    path.write_text(PAGE.replace("![]", "![a picture]"))
    assert list(check_links(Page(path))) == [
        "page.md:3: page.md#b: that page has no such heading",
        "page.md:3: nothing.md: there is no such file",
        "page.md:3: x.png: there is no such file",
    ]


def test_names_that_do_not_exist_are_named(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(NAMES)
    mistakes = list(check_names(Page(path), ["made/here.py"]))
    found = [re.search(r"[\w./']+( is not.*)?$", mistake)[0] for mistake in mistakes]
    assert found == [
        "CELERY_BROKER_URI is not a setting",
        "'imigrate'",
        "'walker'",
        "'tests'",
        "posts.tasks.basics.subtract",
        "blog/celry.py",
        "EXPORT_SECCONDS",
    ]


def test_what_is_called_gone_must_be_gone(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(
        "<!-- gone: celerycam migrate -->\n`manage.py celerycam`, `manage.py migrate`\n"
    )
    assert list(check_names(Page(path))) == ["page.md:2: there is still a command 'migrate'"]


def test_rows_without_a_proof_are_named(tmp_path):
    path = tmp_path / "coverage.md"
    text = (ROOT / "docs" / "coverage.md").read_text()
    first = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    for new, mistake in (
        ("", f"section G1 has rows {list(range(2, SECTIONS['G1'] + 1))}, not 1 to 15"),
        ("| 1 | a | we believe so |", "G1.1 names no proof"),
        ("| 1 | a | `tests/no.py::test_x` |", "G1.1: there is no file tests/no.py"),
        ("| 1 | a | `tests/tasks.py::test_x` |", "G1.1: tests/tasks.py has no test 'test_x'"),
    ):
        path.write_text(text.replace(first, new, 1))
        assert list(check_coverage(path)) == [mistake]


def test_the_runner_stays_small():
    """Below 500 lines of code, without docstrings, comments and blank lines."""
    lines = 0
    for name in ("pages.py", "play.py", "compare.py"):
        tree = ast.parse((ROOT / "tests" / "docs" / name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value = ast.Constant("")
        lines += len(ast.unparse(tree).splitlines())
    assert lines < 500
