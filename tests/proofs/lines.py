"""The lines of configuration that need a proof, and each file without one of them."""

import ast
import re
from dataclasses import dataclass, replace

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


def all_lines():
    """Return every line that needs a proof, in the order of the files."""
    return [*settings_lines(), *celery_lines(), *supervisor_lines(), *compose_lines()]


# --- Python ---------------------------------------------------------------------------------------


class Source:
    """A Python file with the places of its nodes (ast counts bytes, and from line 1)."""

    def __init__(self, file):
        self.file, self.text = file, (ROOT / file).read_bytes()
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


def settings_lines():
    """The Celery settings, each key of those that are dicts, TASKLOG, the database's options."""
    source, seen = Source(SETTINGS), {}
    assignments = [node for node in ast.walk(source.tree) if isinstance(node, ast.Assign)]
    for node in sorted(assignments, key=lambda node: node.lineno):
        target = ast.unparse(node.targets[0]).replace("['default']", "").replace("['OPTIONS']", "")
        if not (target.startswith("CELERY_") or target in ("TASKLOG", "DATABASES")):
            continue
        value = node.value
        if target == "DATABASES" and len(value.keys) == 1:  # {"default": env.dj_db_url(…)}
            for keyword in value.values[0].keywords:
                yield source.pair(f"{target}.{keyword.arg}", keyword, keyword.value)
        elif isinstance(value, ast.Dict):
            for key, item in zip(value.keys, value.values, strict=True):
                yield source.pair(f"{target}.{key.value}", key, item)
        else:
            seen[target] = seen.get(target, 0) + 1
            number = f"#{seen[target]}" if seen[target] > 1 else ""
            yield source.statement(target + number, node, value)


def celery_lines():
    """What connects Celery with Django, and receivers with signals."""
    source = Source(CELERY)
    for node in source.tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            yield source.statement(node.names[0].name, node, node)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            name = ast.unparse(node.value.func).removesuffix(".connect")
            yield source.statement(name, node, node)
        elif isinstance(node, ast.FunctionDef) and node.decorator_list:
            name = ast.unparse(node.decorator_list[0])
            if name.startswith("signals."):
                yield source.statement(name.removesuffix(".connect"), node, node)


# --- supervisord.conf -----------------------------------------------------------------------------


def supervisor_lines():
    """Each option of each section: ``program:slow.startsecs``."""
    text = (ROOT / SUPERVISOR).read_bytes()
    rows, section, offset, reasons = text.decode().splitlines(), "", 0, {}
    for number, row in enumerate(rows, 1):
        if heading := re.fullmatch(r"\[(.+)\]", row):
            section = heading[1]
        elif option := re.fullmatch(r"([\w.]+)=(.*)", row):
            key, end = option[1], offset + len(row.encode())
            # What one program's comment says holds for the same option of the next.
            reason = comment_on(rows, number, ";") or reasons.get(key, "")
            reasons[key] = reason
            value = (end - len(option[2].encode()), end)
            yield Line(f"{section}.{key}", SUPERVISOR, text, (offset, end), value, reason)
        offset += len(row.encode()) + 1


def comment_on(rows, number, mark, near=False):
    """Return the comment on a line: behind it, or above it and the lines that follow at once.

    Args:
        rows (list[str]): the file.
        number (int): the line's, from 1.
        mark (str): what begins a comment.
        near (bool): not above the lines before it.
    """
    if behind := re.search(rf"\s{mark} (.+)$", rows[number - 1]):
        return behind[1]
    above = [row.strip() for row in rows[: number - 1]]
    while not near and above and above[-1] and not above[-1].startswith((mark, "[")):
        above.pop()
    words = []
    while above and above[-1].startswith(mark):
        words.insert(0, above.pop().removeprefix(mark).strip())
    return " ".join(words)


# --- Compose files --------------------------------------------------------------------------------

# What has to be proven there: health checks, order, stop and restart, rights, logs, and what the
# servers are told; all of what production and a further host change. Of the rest (ports, variables,
# commands), the tests in tests/compose tell.
COMPOSE = {
    "docker-compose.yml": "compose",
    "docker-compose.rabbitmq.yml": "rabbitmq",
    "docker-compose.production.yml": "production",
    "docker-compose.worker.yml": "further",
}
IN_COMPOSE = re.compile(
    r"\w+\.(healthcheck\.(test|interval|timeout|start_period|retries)|depends_on\.\w+|restart"
    r"|stop_grace_period|init|read_only|tmpfs|security_opt|cap_drop|logging|shm_size)"
    r"|redis\.command\.\w[\w-]*|redis\.environment\.REDISCLI_AUTH|(db|redis|rabbitmq)\.volumes"
    r"|rabbitmq\.hostname"
)


CHANGES = re.compile(r"\w+\.(environment\.([A-Z_]+|<<)|ports|depends_on)")
OF_FILE = {"production": CHANGES, "further": CHANGES}


def compose_lines():
    """Lines of the Compose files: ``compose:db.restart``, ``rabbitmq:app.depends_on.db``."""
    for file, prefix in COMPOSE.items():
        text, seen, reasons = (ROOT / file).read_bytes(), set(), {}
        top = dict(pairs(yaml.compose(text.decode())))
        shared = [("app", top["x-app"])] if "x-app" in top else []
        places = [*shared, *pairs(top["services"])]
        for path, first, last in [found for name, node in places for found in walk(name, node)]:
            # What stands behind an alias (web: *app) is there once.
            if (
                OF_FILE.get(prefix, IN_COMPOSE).fullmatch(path)
                and first.start_mark.line not in seen
            ):
                seen.add(first.start_mark.line)
                line = yaml_line(f"{prefix}:{path}", file, text, first, last)
                key = path.split(".")[-1]
                if key in ("restart", "security_opt"):  # said once for all services
                    reasons[key] = line.reason or reasons.get(key, "")
                yield replace(line, reason=line.reason or reasons.get(key, ""))


def pairs(node):
    return [(key.value, value) for key, value in node.value]


def walk(path, node):
    """The path, first and last node of each pair below a node, and of each option of a command."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if (
                isinstance(value, yaml.MappingNode)
                and len(value.value) == 1
                and not value.flow_style
            ):
                # Without its only entry it goes as a whole: it may not be empty.
                yield f"{path}.{key.value}.{value.value[0][0].value}", key, value
            else:
                yield f"{path}.{key.value}", key, value
                yield from walk(f"{path}.{key.value}", value)
    elif isinstance(node, yaml.SequenceNode):
        for option, value in zip(node.value, node.value[1:], strict=False):
            if option.value and str(option.value).startswith("--"):
                yield f"{path}.{option.value[2:]}", option, value


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
