"""What can be found out about a post from its text alone. No Celery and no database in here."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from math import ceil

from .markup import to_html

WORDS_PER_MINUTE = 230  # Silent reading of English prose: 238 on average (Brysbaert, 2019).
SUMMARY_LENGTH = 240  # characters


@dataclass
class Findings:
    """The field names are those of the Analysis model."""

    words: int = 0
    reading_minutes: int = 0
    summary: str = ""
    links: list[str] = field(default_factory=list)


def analyse(text):
    """Count a post's words, estimate its reading time, and find its summary and its links.

    Args:
        text (str): Markdown.

    Returns:
        Findings: ``words`` in prose and code; ``reading_minutes`` at 230 words a minute, rounded
        up, 0 for an empty text; ``summary``, the first paragraph as plain text, at most 240
        characters, cut between words; ``links``, each absolute http(s) address once, in order.
    """
    reader = _Reader()
    reader.feed(to_html(text))
    reader.close()
    words = len(re.findall(r"\w[\w'’-]*", "".join(reader.text)))
    return Findings(
        words=words,
        reading_minutes=ceil(words / WORDS_PER_MINUTE),
        summary=shorten("".join(reader.first_paragraph)),
        links=list(dict.fromkeys(reader.links)),
    )


def shorten(text, length=SUMMARY_LENGTH):
    """Cut a text between two words.

    Args:
        text (str): plain text. Runs of white space become one space.
        length (int): the most characters to return, the ellipsis included.

    Returns:
        str: the text, with «…» at its end where something was cut.
    """
    text = " ".join(text.split())
    if len(text) <= length:
        return text
    head = text[:length]
    # One word longer than everything: then in the middle of it, for want of a boundary.
    head = head.rsplit(" ", 1)[0] if " " in head else head[:-1]
    return head.rstrip(" ,;:.–—-") + "…"


class _Reader(HTMLParser):
    """Collects text, first paragraph and links of sanitised HTML, whose tags all match."""

    BLOCKS = {
        "blockquote", "br", "div", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
        "table", "td", "th", "tr", "ul",
    }  # fmt: skip

    def __init__(self):
        super().__init__()
        self.text, self.first_paragraph, self.links = [], [], []
        self.in_first = False

    def handle_starttag(self, tag, attrs):
        if tag in self.BLOCKS:
            self.text.append("\n")
        if tag == "p" and not "".join(self.first_paragraph).strip():
            self.in_first = True
        elif tag == "br" and self.in_first:
            self.first_paragraph.append(" ")
        elif tag == "a":
            href = dict(attrs).get("href") or ""
            if re.match(r"https?://\S", href, re.IGNORECASE):
                self.links.append(href)

    def handle_endtag(self, tag):
        if tag == "p":
            self.in_first = False

    def handle_data(self, data):
        self.text.append(data)
        if self.in_first:
            self.first_paragraph.append(data)
