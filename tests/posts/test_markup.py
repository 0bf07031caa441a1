import re
from pathlib import Path

import pytest
from django.conf import settings

from posts.markup import to_html

CSS = Path(settings.BASE_DIR, "posts/static/posts/site.css").read_text()


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)></svg>",
        "<iframe src='https://evil.example'></iframe>",
        "<style>body { display: none }</style>",
        "<p style='position: fixed'>x</p>",
        "<a href='javascript:alert(1)'>x</a>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "![x](javascript:alert(1))",
        "<form action='https://evil.example'><input name='password'></form>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        '```"><script>alert(1)</script>\nx\n```',
        "<button hx-post='/write/1/publish/' hx-trigger='load'>x</button>",
        "<p hx-get='/' data-hx-get='/' id='main'>x</p>",
    ],
)
def test_nothing_dangerous_survives(attack):
    html = to_html(attack)
    tags = re.findall(r"<[^>]*>", html)
    assert not [
        tag
        for tag in tags
        if re.search(r"<(script|svg|iframe|style|form|input|math|button)", tag, re.IGNORECASE)
        or re.search(r"\s(on\w+|style|id|hx-|data-)", tag, re.IGNORECASE)
        or re.search(r"(javascript|data):", tag, re.IGNORECASE)
    ]


def test_what_scripts_and_styles_contain_goes_with_them():
    assert "alert" not in to_html("<script>alert(1)</script>")
    assert "display" not in to_html("<style>body { display: none }</style>")


def test_foreign_classes_go():
    html = to_html('<div class="message message-error">The site is broken</div>')
    assert "The site is broken" in html
    assert "message-error" not in html


def test_the_page_keeps_its_only_first_level_heading():
    html = to_html("# One\n\n## Two")
    assert "<h2>One</h2>" in html
    assert "<h2>Two</h2>" in html
    assert "<h1" not in html


def test_code_is_highlighted_by_classes_which_the_stylesheet_knows():
    html = to_html('```python\n@task\ndef f():\n    return "s" + 1  # why\n```')
    assert '<div class="code">' in html
    classes = set(re.findall(r'<span class="(\w+)">', html))
    assert {"k", "nf", "nd", "s2", "mi", "c1"} <= classes
    for name in ("k", "nf", "nd", "s2", "mi", "c1"):
        assert f".code .{name} " in CSS or f".code .{name}," in CSS
    assert "style=" not in html


def test_code_is_not_guessed_and_keeps_its_characters():
    html = to_html("```\n#!/usr/bin/python\nimport os; a < b && c\n```")
    assert "import os; a &lt; b &amp;&amp; c" in html


def test_tables_scroll_and_align_without_inline_styles():
    html = to_html("| a | b |\n|---|--:|\n| 1 | 2 |")
    assert '<div class="scroll"><table>' in html
    assert "</table></div>" in html
    assert '<td align="right">2</td>' in html
    assert "style=" not in html


def test_quotes_are_curled_but_not_in_code():
    html = to_html('She said "no" to `"x"`.')
    assert "“no”" in html
    assert '<code>"x"</code>' in html


def test_links_lose_their_way_back():
    assert 'rel="noopener noreferrer"' in to_html("[x](https://example.com)")


def test_control_characters_go():
    assert to_html("a\x00\x0b\x1fb\nc") == "<p>ab\nc</p>"
