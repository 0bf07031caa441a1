"""Hooks of mkdocs: what differs between the guide on a code host and as a site."""

import re


def on_page_markdown(markdown, **kwargs):
    """Leave the text of links to files outside of docs/, which are not part of the site."""
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", markdown)
