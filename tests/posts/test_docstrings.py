"""What each of the site's tasks says of itself."""

import re
from inspect import getdoc

import pytest
from celery import current_app

import posts.tasks  # noqa: F401  (registers them)

TASKS = sorted(name for name in current_app.tasks if name.startswith("posts."))

SAID = {
    "why it may run twice, or runs once": "Safe to run twice|so it runs once",
    "its time limits": "[Ll]imits",
    "its queue": "Queue",
    "what it raises": "Raises",
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_has_to_be_known(name):
    text = " ".join(getdoc(current_app.tasks[name].run).split())
    assert [what for what, words in SAID.items() if not re.search(words, text)] == []
