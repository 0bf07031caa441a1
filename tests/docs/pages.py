"""Reads the guide: Markdown that stays plain on a code host, with notes in HTML comments.

A note stands on a line of its own right before the block that it is about:

    <!-- terminal: worker -->                 where the block is typed; else «main»
    <!-- terminal: worker, keeps running -->  the block's last command does not end by itself
    <!-- file: blog/celery.py -->             the listing is that file; a `diff` changes it
    <!-- end of: blog/celery.py -->           the listing is added to the end of that file
    <!-- from: blog/celery.py: square -->     the listing equals that part of the repository
    <!-- page: http://… as name:password -->  the lines stand on that web page, in this order
    <!-- tested by: tests/…py::test_name -->  that test runs the block's commands, or plays the page
    <!-- not run: … -->                       the reason why nobody can run it here
"""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent.parent
NOTES = ("terminal", "file", "end of", "from", "page", "tested by", "not run")
NOTE = re.compile(r"<!-- *(?P<key>[^:]+?) *(: *(?P<value>.*?) *)?-->", re.S)
MARKDOWN = MarkdownIt("commonmark").enable("table")


class Mistake(Exception):
    """Something in a page is wrong. The message says what, for its writer."""


@dataclass
class Block:
    """A fenced block with its notes, and the text right before it."""

    line: int
    kind: str
    text: str
    notes: dict = field(default_factory=dict)
    before: str = ""

    def check(self):
        """Raise Mistake where it is not clear what the block is."""
        if unknown := set(self.notes) - set(NOTES):
            raise Mistake(f"unknown note {', '.join(unknown)!r}; there are: {', '.join(NOTES)}")
        if empty := [key for key, value in self.notes.items() if not value]:
            raise Mistake(f"the note {empty[0]!r} says nothing: give the value, or the reason")
        if self.kind not in ("console", "pycon") and not set(self.notes) - {"terminal"}:
            raise Mistake(
                f"a {self.kind or 'nameless'} block is a file, a part of one, a page, or says why "
                "it is not run"
            )
        for key in ("file", "end of"):
            # The notes are invisible on a code host, so the text has to say it too.
            if key in self.notes and f"`{self.notes[key]}`" not in self.before:
                raise Mistake(f"the paragraph before the listing does not name `{self.notes[key]}`")
        if "from" in self.notes and self.text.strip() != part_of(self.notes["from"]).strip():
            raise Mistake(f"the listing differs from {self.notes['from']} in the repository")
        if test := self.notes.get("tested by"):
            check_test(test)


class Page:
    """A Markdown file.

    Args:
        path (Path): the file.

    Attributes:
        blocks (list[Block]): its fenced blocks, but for diagrams, which nobody can run.
        links (list[tuple[int, str]]): line and target of each link and image.
        anchors (set[str]): what a link to a place in it may name, as code hosts make it.
        words (list[tuple[int, str]]): line and text of each piece of inline code.
    """

    def __init__(self, path):
        self.path, self.text = Path(path), Path(path).read_text()
        self.blocks, self.links, self.anchors, self.words = [], [], set(), []
        notes, before, heading = {}, "", False
        for token in MARKDOWN.parse(self.text):
            if token.type == "html_block":
                notes |= {m["key"]: m["value"] for m in NOTE.finditer(token.content)}
                continue
            if token.type == "fence":
                kind = token.info.split()[0] if token.info else ""
                if kind != "mermaid":
                    block = Block(token.map[0] + 1, kind, token.content, notes, before)
                    self.blocks.append(block)
            elif token.type == "inline":
                before = token.content
                self._read_inline(token, heading)
            heading = token.type == "heading_open"
            if not token.type.endswith("_open"):
                notes = {}

    def _read_inline(self, token, heading):
        line = token.map[0] + 1
        if heading:
            plain = "".join(child.content for child in token.children)
            slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
            self.anchors.add(slug)
        for child in token.children:
            if child.type == "link_open":
                self.links.append((line, child.attrs["href"]))
            elif child.type == "image":
                if not child.content:
                    raise Mistake(f"{self.path}:{line}: a picture without a description")
                self.links.append((line, child.attrs["src"]))
            elif child.type == "code_inline":
                self.words.append((line, child.content))


def part_of(reference, root=ROOT):
    """Return a file of the repository, or the named part of it.

    Args:
        reference (str): a path, or ``path: part``. The part is a function, class or variable of a
            Python file, a ``[section]`` of an ini file, or anything that the first line of an
            indented passage contains (YAML).

    Raises:
        Mistake: there is no such file or part.
    """
    path, _, name = reference.partition(": ")
    if not (root / path).is_file():
        raise Mistake(f"there is no file {path}")
    text = (root / path).read_text()
    if not name:
        return text
    lines = text.splitlines()
    if path.endswith(".py"):
        for node in ast.parse(text).body:
            targets = getattr(node, "targets", [node])
            if name in [getattr(target, "id", getattr(target, "name", "")) for target in targets]:
                first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
                return "\n".join(lines[first - 1 : node.end_lineno])
    for number, line in enumerate(lines):
        if line.strip().rstrip(":") == name:
            rest = lines[number + 1 :]
            indent = len(line) - len(line.lstrip())
            ends = [
                n
                for n, below in enumerate(rest)
                if (below.startswith("[") if name.startswith("[") else below.strip())
                and len(below) - len(below.lstrip()) <= indent
            ]
            end = number + 1 + (ends[0] if ends else len(rest))
            return dedent("\n".join(lines[number:end]))
    raise Mistake(f"{path} has no part {name!r}")


def check_test(reference, root=ROOT):
    """Raise Mistake unless ``path::name`` is a test of the repository."""
    path, _, name = reference.partition("::")
    if not (root / path).is_file():
        raise Mistake(f"there is no file {path}")
    names = [
        node.name
        for node in ast.walk(ast.parse((root / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    if not name or any(part not in names for part in name.split("::")):
        raise Mistake(f"{path} has no test {name!r}")
