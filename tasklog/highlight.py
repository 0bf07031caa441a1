"""JSON and tracebacks for people: in colour where Pygments is installed."""

import json

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
    """Return a value as indented JSON, in HTML.

    Args:
        value: anything; what JSON does not know is shown as text.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return show(text, JsonLexer)


def show_stored(text, content_type):
    """Return what a result row holds, in HTML: JSON is indented, the rest is shown as it is."""
    if content_type == "application/json" and len(text) <= LONGEST:
        try:
            return show_json(json.loads(text))
        except ValueError:
            pass
    return show(text)


def show_traceback(text):
    """Return a traceback in HTML."""
    return show(text, PythonTracebackLexer)


def show(text, lexer=None):
    """Return a text in HTML, the beginning if it is long.

    Args:
        text (str): any.
        lexer (type | None): one of Pygments', or None for plain text.
    """
    left_out = len(text) - LONGEST
    text = text[:LONGEST]
    code = text
    if lexer:
        code = mark_safe(highlight(text, lexer(), HtmlFormatter(nowrap=True)))  # it escapes
    html = format_html('<pre class="tasklog-code" tabindex="0">{}</pre>', code)
    if left_out > 0:
        html += format_html('<p class="help">… and {} more characters.</p>', f"{left_out:,}")
    return html
