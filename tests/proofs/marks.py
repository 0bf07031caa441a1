"""Which test proves which line: the marks `proves` on tests, read without running them.

``@pytest.mark.proves("CELERY_TIMEZONE", …)`` says that the test fails when one of these lines is
taken out of its file. Its docstring says, from the word «Without» on, what breaks then;
before it, where the file has no comment on the line, why it is there.

``without="{}"``: the line is not taken out but has this value, where a file without it would mean
nothing. ``fails="text"``: it fails by an error with this text, or by an assertion. A line may have
several proofs, each for a part of it.
"""

import ast
from dataclasses import dataclass

from tests.services import ROOT


@dataclass(frozen=True)
class Proof:
    """A line's name with the test that proves it."""

    line: str
    file: str
    test: str
    doc: str
    without: str | None = None
    fails: str | None = None

    @property
    def breaks(self):
        """What breaks without the line."""
        return self.doc[self.doc.index("Without") :] if "Without" in self.doc else ""

    @property
    def reason(self):
        """Why the line is there."""
        return self.doc[: self.doc.index("Without")].strip() if "Without" in self.doc else ""

    @property
    def node(self):
        """How pytest names the test."""
        return f"{self.file}::{self.test}"


def all_proofs(root=ROOT):
    """Return all proofs under `tests/` of a copy of the project."""
    files = sorted((root / "tests").rglob("test_*.py"))
    return [proof for file in files for proof in proofs_in(file, root)]


def proofs_in(file, root):
    for node in ast.parse(file.read_bytes()).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.proves":
                options = {word.arg: ast.literal_eval(word.value) for word in mark.keywords}
                doc = " ".join((ast.get_docstring(node) or "").split())
                for name in map(ast.literal_eval, mark.args):
                    path = file.relative_to(root).as_posix()
                    yield Proof(name, path, node.name, doc, **options)
