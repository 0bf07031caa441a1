"""docs/settings.md: each line of configuration with its reason and its proof."""

import sys
from pathlib import Path

from tests.services import ROOT

from .defaults import default_of
from .lines import all_lines
from .marks import all_proofs

PAGE = ROOT / "docs" / "settings.md"
HEAD = """\
# Every line of configuration, and its proof

Each line below is there because a test fails without it. `make prove` takes one after the other out
of a copy of the project, runs its proof, and requires it to fail. What stands here is written by
`make prove` too: the defaults are the libraries' own; the reasons are the comments in the files, or
stand with the proofs, as does what breaks.

`make prove ONLY="CELERY_TASK_*"` proves some of them, `make prove-compose` those of the Compose
files. `#2` is the second line of a name in its file.
"""


def page():
    """Return the text of docs/settings.md."""
    proofs = {}
    for proof in all_proofs():
        proofs.setdefault(proof.line, []).append(proof)
    parts, file = [HEAD], None
    for line in all_lines():
        if line.file != file:
            file = line.file
            parts.append(f"## {file}\n")
        parts.append(entry(line, proofs.get(line.name, [])))
    return "\n".join(parts)


def entry(line, proofs):
    """One line's section."""
    tests = {proof.node: f"[`{proof.test}`](../{proof.file})" for proof in proofs}
    rows = [f"### {line.name}\n", f"- Here: `{line.shown()}`"]
    rows += [f"- Default: {default_of(line)}", f"- Why: {reason_of(line, proofs)}"]
    rows += [f"- {text}" for text in dict.fromkeys(proof.breaks for proof in proofs) if text]
    rows.append(f"- Proof: {', '.join(tests.values()) or 'none'}\n")
    return "\n".join(rows)


def reason_of(line, proofs):
    """The comment on a line, or else what its first proof says before «Without»."""
    return line.reason or next((proof.reason for proof in proofs), "")


def write():
    """Write docs/settings.md anew."""
    PAGE.write_text(page())


if __name__ == "__main__":
    write()
    print(f"Wrote {Path(PAGE).relative_to(ROOT)}.", file=sys.stderr)
