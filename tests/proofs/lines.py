"""The lines of configuration that need a proof, and each file without one of them."""

import ast
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise

import yaml

from tests.services import ROOT

SETTINGS, CELERY, SUPERVISOR = "blog/settings.py", "blog/celery.py", "supervisord.conf"


@dataclass(frozen=True)
class Line:
    """One line of configuration, which may span several lines of its file.

    Args:
        name (str): how a proof names it: ``CELERY_TIMEZONE``, ``program:slow.startsecs``.
        file (str): where it stands, relative to the project.
        text (bytes): the whole file.
        span (tuple[int, int]): the bytes that go when it goes.
        value (tuple[int, int]): the bytes of its value.
        reason (str): the comment on it.
        rest (str): what has to stand in its place, so that the file can still be read.
    """

    name: str
    file: str
    text: bytes
    span: tuple
    value: tuple
    reason: str
    rest: str = ""

    @property
    def in_compose(self):
        """Whether its proof needs Docker."""
        return self.file.endswith(".yml")

    def shown(self):
        """Its value, as it stands in the file."""
        start, end = self.value
        rows = self.text[start:end].decode().splitlines()
        return " ".join(" ".join(r for r in rows if not r.strip().startswith("#")).split())

    def source(self):
        """The whole of it, with its name."""
        start, end = self.span
        return self.text[start:end].decode()

    def take_out(self, copy, instead=None):
        """Rewrite its file in a copy of the project.

        Args:
            copy (Path): the copy.
            instead (str | None): the value to put in; None removes the line.
        """
        start, end = self.span if instead is None else self.value
        new = (self.rest if instead is None else instead).encode()
        (copy / self.file).write_bytes(self.text[:start] + new + self.text[end:])


def all_lines(root=ROOT):
    """Return every line that needs a proof, in the order of the files of a copy of the project."""
    return [
        *settings_lines(root),
        *celery_lines(root),
        *supervisor_lines(root),
        *compose_lines(root),
    ]


# --- Python ---------------------------------------------------------------------------------------


class Source:
    """A Python file with the places of its nodes (ast counts bytes, and from line 1)."""

    def __init__(self, file, root):
        self.file, self.text = file, (root / file).read_bytes()
        self.rows = self.text.decode().splitlines()
        self.starts = [0]
        for row in self.text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(row))
        self.tree = ast.parse(self.text)

    def place(self, node, first=None):
        start = self.starts[(first or node).lineno - 1] + (first or node).col_offset
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset

    def statement(self, name, node, value):
        """The line that is a statement. `pass` takes its place: a block may not be empty."""
        first = (getattr(node, "decorator_list", None) or [node])[0]
        start, end = self.place(node, first)
        if self.text[start - 1 : start] == b"@":
            start -= 1
        reason = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
        reason = " ".join(reason.split()) if reason else comment_on(self.rows, first.lineno, "#")
        return Line(name, self.file, self.text, (start, end), self.place(value), reason, "pass")

    def pair(self, name, first, value):
        """The line that is a key with its value, in a dict or a call."""
        start, end = self.place(value, first)
        end += len(re.match(rb",?", self.text[end:])[0])
        reason = comment_on(self.rows, first.lineno, "#")
        return Line(name, self.file, self.text, (start, end), self.place(value), reason)


def changes(node):
    """What a statement sets or changes, as source code, each with the node of its new value."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            for each in getattr(target, "elts", [target]):
                yield ast.unparse(each), node.value
    elif isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value:
        yield ast.unparse(node.target), node.value
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.unparse(node.value.func), node.value


def settings_lines(root):
    """What sets the Celery settings, TASKLOG and the databases. Of a dict, each of its keys."""
    source, seen = Source(SETTINGS, root), Counter()

    def numbered(name):
        seen[name] += 1
        return name if seen[name] == 1 else f"{name}#{seen[name]}"

    statements = [node for node in ast.walk(source.tree) if isinstance(node, ast.stmt)]
    for node in sorted(statements, key=lambda node: node.lineno):
        for target, value in changes(node):
            target = target.replace("['default']", "").replace("['OPTIONS']", "")
            target = re.sub(r"\['(\w+)'\]", r".\1", target)
            if not re.search(r"\bCELERY_|^(TASKLOG|DATABASES)\b", target):
                continue
            items = {}
            if isinstance(value, ast.Dict) and all(value.keys):
                items = dict(zip(value.keys, value.values, strict=True))
            if target == "DATABASES" and len(items) == 1 and isinstance(value.values[0], ast.Call):
                for keyword in value.values[0].keywords:  # {"default": env.dj_db_url(…)}
                    name = numbered(f"{target}.{keyword.arg}")
                    yield source.pair(name, keyword, keyword.value)
                continue
            for key, item in items.items():
                yield source.pair(numbered(f"{target}.{ast.literal_eval(key)}"), key, item)
            if not items:
                yield source.statement(numbered(target), node, value)


def celery_lines(root):
    """What connects Celery with Django, and receivers with signals.

    All of the module but its docstring, `app = …`, what it imports from elsewhere, and functions
    that are no receivers.
    """
    source = Source(CELERY, root)
    for node in source.tree.body[1:]:
        if isinstance(node, ast.ImportFrom | ast.Import):
            if getattr(node, "level", 0) or node.names[0].name.startswith("blog."):
                yield source.statement(node.names[0].name, node, node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            for name in map(ast.unparse, node.decorator_list):
                if name.startswith("signals."):
                    yield source.statement(name.removesuffix(".connect"), node, node)
        else:
            name = next(changes(node), (ast.unparse(node).splitlines()[0],))[0]
            if name != "app":
                yield source.statement(name.removesuffix(".connect"), node, node)


# --- supervisord.conf -----------------------------------------------------------------------------


def supervisor_lines(root):
    """Each option of each section: ``program:slow.startsecs``."""
    text = (root / SUPERVISOR).read_bytes()
    rows, section, offset, reasons = text.decode().splitlines(), "", 0, {}
    for number, row in enumerate(rows, 1):
        if heading := re.match(r"\[(.+)\]", row):
            section = heading[1]
        elif option := re.match(r"([^\s;=:][^=:]*?)\s*[=:]\s*(.*?)(\s;.*)?$", row):
            # What one program's comment says holds for the same option of the next.
            key = section.split(":")[0], option[1]
            reasons[key] = comment_on(rows, number, ";", near=True) or reasons.get(key, "")
            value = tuple(offset + len(row[:place].encode()) for place in option.span(2))
            span, name = (offset, offset + len(row.encode())), f"{section}.{option[1]}"
            yield Line(name, SUPERVISOR, text, span, value, reasons[key])
        offset += len(row.encode()) + 1


def comment_on(rows, number, mark, near=False):
    """Return the comment on a line: behind it, or above it and the lines that follow at once.

    Args:
        rows (list[str]): the file.
        number (int): the line's, from 1.
        mark (str): what begins a comment.
        near (bool): not above the lines before it.
    """
    if behind := re.search(rf"\s{mark} (?!noqa)(.+)$", rows[number - 1]):
        return behind[1]
    above = [row.strip() for row in rows[: number - 1]]
    while not near and above and above[-1] and not above[-1].startswith((mark, "[")):
        above.pop()
    words = []
    while above and above[-1].startswith(mark):
        words.insert(0, above.pop().removeprefix(mark).strip())
    return " ".join(words)


# --- Compose files --------------------------------------------------------------------------------

COMPOSE = {
    "docker-compose.yml": "compose",
    "docker-compose.rabbitmq.yml": "rabbitmq",
    "docker-compose.production.yml": "production",
    "docker-compose.worker.yml": "further",
}
# What a service is, without which it is none: here the tests of tests/compose tell. Of the command
# of Redis, which is its configuration, each option counts.
NO_PROOF = ("image", "build", "command", "extends", "<<")
BY_ENTRY = ("environment", "healthcheck", "depends_on")
# The comment on the first of these speaks of all that follow without one.
SAID_ONCE = ("restart", "security_opt", "logging", "init")


def compose_lines(root):
    """Lines of the Compose files: ``compose:db.restart``, ``rabbitmq:app.depends_on.db``."""
    reasons = {}
    for file, prefix in COMPOSE.items():
        text = (root / file).read_bytes()
        for path, first, last in keys_of(yaml.compose(text.decode())):
            line = yaml_line(f"{prefix}:{path}", file, text, first, last)
            key = path.split(".")[-1]
            if key in SAID_ONCE:
                first = reasons.setdefault(key, line.reason)
                line = replace(line, reason=line.reason or first)
            yield line


def keys_of(document):
    """The path, first and last node of each key that needs a proof, wherever it stands."""
    for key, node in document.value:
        if key.value == "services":
            for service, its_keys in node.value:
                yield from keys_of_service(service.value, service, its_keys)
        elif key.value.startswith("x-"):
            yield from keys_of_service(key.value[2:], key, node)
        elif key.value != "volumes":
            yield key.value, key, node


def keys_of_service(service, first, node):
    if is_alias(first, node) or not isinstance(node, yaml.MappingNode):  # *app, !reset null
        yield service, first, node
        return
    for key, value in node.value:
        path = f"{service}.{key.value}"
        if path == "redis.command":
            words = [*value.value, value.value[-1]]
            for option, last in pairwise(words):
                if option.value.startswith("--"):
                    last = option if last.value.startswith("--") else last
                    yield f"{path}.{option.value[2:]}", option, last
        elif key.value in BY_ENTRY and has_entries(key, value):
            for entry, last in value.value:
                # Without its only entry it goes as a whole: it may not be empty.
                alone = len(value.value) == 1 and not value.flow_style
                yield f"{path}.{entry.value}", *((key, value) if alone else (entry, last))
        elif key.value not in NO_PROOF:
            yield path, key, value


def is_alias(key, value):
    """Whether a value stands elsewhere, above its key."""
    return value.start_mark.index < key.start_mark.index


def has_entries(key, value):
    return isinstance(value, yaml.MappingNode) and value.value and not is_alias(key, value)


def yaml_line(name, file, text, first, last):
    """The line from one node to another: whole rows of the file."""
    rows = text.decode().splitlines(keepends=True)
    start, end = first.start_mark.line, first.start_mark.line + 1
    if last.end_mark.line > start:  # or else it is an alias, of what stands above
        end = last.end_mark.line + (last.end_mark.column > 0 and rows_used(rows, last))
    while not rows[end - 1].strip() or rows[end - 1].strip().startswith("#"):
        end -= 1
    offsets = [len("".join(rows[:number]).encode()) for number in (start, end)]
    after_key = text[offsets[0] + len(rows[start][: first.end_mark.column].encode()) :]
    value = len(text) - len(after_key) + len(re.match(rb":?\s*", after_key)[0])
    reason = comment_on(rows, start + 1, "#", near=True)
    return Line(name, file, text, tuple(offsets), (value, offsets[1] - 1), reason)


def rows_used(rows, node):
    """Whether the row in which a node ends is its own: a block ends where the next thing begins."""
    return bool(rows[node.end_mark.line][: node.end_mark.column].strip())
