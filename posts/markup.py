"""Markdown to HTML that is safe to put on a page."""

import re

import markdown
import nh3
from pygments.token import STANDARD_TYPES

TAGS = {
    "a", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr",
    "img", "ins", "kbd", "li", "ol", "p", "pre", "span", "strong", "sub", "sup", "table", "tbody",
    "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title"}, "img": {"src", "alt", "title"}, "ol": {"start"}}
# Only what the highlighter writes: any other class could dress text up as a part of the site.
CLASSES = {"div": {"code"}, "span": {name for name in STANDARD_TYPES.values() if name}}
ALIGN = {"align": {"left", "center", "right"}}

CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def to_html(text):
    """Render a post's Markdown.

    HTML in the text is kept as far as the lists above allow it; scripts, styles, event handlers,
    ids and foreign classes are dropped. A first-level heading becomes a second-level one, because
    the page's first is the post's title.

    Args:
        text (str): Markdown with fenced code and tables. Untrusted.

    Returns:
        str: HTML, without inline styles or scripts. Mark it safe where it is shown.
    """
    html = markdown.markdown(
        without_control_characters(text),
        extensions=["fenced_code", "codehilite", "tables", "sane_lists", "smarty"],
        extension_configs={
            "codehilite": {"css_class": "code", "guess_lang": False},
            "tables": {"use_align_attribute": True},
        },
        output_format="html",
    )
    html = clean(html)
    html = html.replace("<h1>", "<h2>").replace("</h1>", "</h2>")
    # A wide table scrolls inside itself, not the page.
    return html.replace("<table>", '<div class="scroll"><table>').replace(
        "</table>", "</table></div>"
    )


def clean(html):
    """Drop from HTML what the lists above do not allow.

    Args:
        html (str): untrusted.

    Returns:
        str: HTML that is safe to put on a page.
    """
    return nh3.clean(
        html,
        tags=TAGS,
        attributes=ATTRIBUTES,
        allowed_classes=CLASSES,
        tag_attribute_values={"td": ALIGN, "th": ALIGN},
        url_schemes={"http", "https", "mailto"},
    )


def without_control_characters(text):
    """Drop the characters that XML forbids: one of them would make the whole feed fail.

    Args:
        text (str): any text.

    Returns:
        str: the same without control characters, tabs and line ends kept.
    """
    return CONTROL_CHARACTERS.sub("", text)
