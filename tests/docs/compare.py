"""Compares what a page prints with what came out, after small named normalisers."""

import difflib
import re

# Each keeps the number of lines. Applied to both sides, so a page may print a real id or time.
NORMALISERS = {
    "colours": (r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]", ""),
    "the terminal's echo of Ctrl-C": (r"\^C", ""),
    "line ends": (r"[ \t\r]+(?=\n|\Z)", ""),
    "platform": (r"\b(Linux|macOS)-[\w.+-]+", "<platform>"),
    "ids": (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<id>"),
    "times": (
        r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?([.,]\d+)?(Z|[+-]\d\d:?\d\d)?"
        r"|\b\d\d?[ /][A-Z][a-z]{2}[ /]\d{4} \d\d:\d\d:\d\d([.,]\d+)?"
        r"|\b[A-Z][a-z]{2,8}\.? \d\d?, \d{4}"
        r"( - \d\d:\d\d:\d\d|, (\d\d?(:\d\d)? [ap]\.m\.|noon|midnight))?",
        "<time>",
    ),
    "durations": (
        r"\b\d+(\.\d+)?(e-\d+)?s\b|\b\d+\.\d+(?= seconds\b)|\b\d+:\d\d:\d\d\b",
        "<duration>",
    ),
    "pids": (r"(?<=\bpid )\d+|(?<=\bpid: )\d+|(?<='pid': )\d+|(?<=Worker-)\d+", "<pid>"),
    "versions": (r"(?<![\d.])\d+\.\d+\.\d+(?![\d.])", "<version>"),
    "python": (r"\bpython3\.\d+", "python3"),
    "addresses in memory": (r"\b0x[0-9a-f]{6,}", "<address>"),
    "line numbers of packages": (r'(site-packages/\S+", line )\d+', r"\1<number>"),
}


def normalise(text):
    """Return ``text`` without what differs from run to run."""
    for pattern, replacement in NORMALISERS.values():
        text = re.sub(pattern, replacement, text)
    return text


def pattern_of(printed):
    """Return a compiled expression for what a page prints.

    A line ``...`` stands for any number of lines, ``...`` in a line for any text in that line.
    """
    lines = []
    for line in normalise(printed).splitlines():
        if line.strip() == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(r".*?".join(map(re.escape, line.split("..."))) + r"\n")
    return re.compile("".join(lines))


def difference(printed, output):
    """Return None where the whole output is as printed, else a readable difference."""
    output = normalise(output)
    if output and not output.endswith("\n"):
        output += "\n"
    if pattern_of(printed).fullmatch(output):
        return None
    lines = difflib.unified_diff(
        normalise(printed).splitlines(), output.splitlines(), "the page", "the output", lineterm=""
    )
    return "\n".join(list(lines)[:80])
