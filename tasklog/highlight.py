"""JSON and tracebacks for people: in colour where Pygments is installed."""

import json
from contextlib import suppress

from django.utils.html import format_html
from django.utils.safestring import mark_safe

try:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import JsonLexer, PythonTracebackLexer
except ImportError:
    JsonLexer = PythonTracebackLexer = None

LONGEST = 50_000  # characters that are shown


def show_json(value):
    """Return any value as indented JSON, in HTML."""
    return show(json.dumps(value, indent=2, ensure_ascii=False, default=str), JsonLexer)


def show_stored(row):
    """Return what a TaskResult or None holds, in HTML: JSON indented, the rest as it is."""
    if row is None or row.result is None:
        return None
    if row.content_type == "application/json" and len(row.result) <= LONGEST:
        with suppress(ValueError):
            return show_json(json.loads(row.result))
    return show(row.result)


def show_traceback(text):
    """Return a traceback or None in HTML."""
    return show(text, PythonTracebackLexer) if text else None


def show(text, lexer=None):
    """Return a text in HTML, the beginning if it is long. `lexer` is Pygments'."""
    left_out, text = len(text) - LONGEST, printable(text[:LONGEST])
    if lexer:
        text = mark_safe(highlight(text, lexer(), HtmlFormatter(nowrap=True)))  # it escapes
    html = format_html('<pre class="tasklog-code" tabindex="0">{}</pre>', text)
    if left_out > 0:
        html += format_html('<p class="help">… and {} more characters.</p>', f"{left_out:,}")
    return html


def printable(text):
    """Return a text for a browser: lone surrogates are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
