from datetime import timedelta
from unittest.mock import patch

import pytest
from django.core import serializers
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from posts.analysis import analyse, shorten
from posts.models import Analysis, Post
from posts.tasks.analysis import analyse_post


def test_words_are_counted_in_prose_lists_and_code_but_not_in_markup():
    text = "# A title\n\nIt's *two* words-long.\n\n- one\n- two\n\n```python\nx = 1\n```\n"
    assert analyse(text).words == 2 + 3 + 2 + 2


@pytest.mark.parametrize(
    ("words", "minutes"), [(0, 0), (1, 1), (230, 1), (231, 2), (460, 2), (461, 3)]
)
def test_reading_time_is_rounded_up(words, minutes):
    found = analyse("word " * words)
    assert (found.words, found.reading_minutes) == (words, minutes)


def test_the_summary_is_the_first_paragraph_without_markup():
    text = "# Title\n\n- a list\n\nThe *first*  paragraph,\nwith `code` & a [link](/x).\n\nSecond."
    assert analyse(text).summary == "The first paragraph, with code & a link."


def test_a_paragraph_without_text_is_no_summary():
    assert analyse("![](/a.png)\n\nWords.").summary == "Words."


def test_a_long_summary_ends_between_words():
    summary = analyse("Lorem ipsum, " * 40).summary
    assert len(summary) <= 240
    assert summary.endswith(("Lorem…", "ipsum…"))


def test_shorten_cuts_at_the_last_whole_word():
    assert shorten("one two three", 13) == "one two three"
    assert shorten("one two three", 12) == "one two…"
    assert shorten("one  two\nthree", 13) == "one two three"


def test_shorten_cuts_inside_a_word_that_fills_everything():
    assert shorten("abcdefghij", 5) == "abcd…"


def test_links_are_absolute_unique_and_in_order():
    text = (
        "[b](https://b.example/x) [a](http://a.example) [b](https://b.example/x) "
        "[r](/relative) [m](mailto:a@b.example) [j](javascript:alert(1)) <https://c.example/?a=1&b=2>"
    )
    assert analyse(text).links == [
        "https://b.example/x",
        "http://a.example",
        "https://c.example/?a=1&b=2",
    ]


def test_an_empty_text_gives_nothing():
    found = analyse("")
    assert (found.words, found.reading_minutes, found.summary, found.links) == (0, 0, "", [])


def test_the_task_stores_what_it_found_and_says_how_much(make_post):
    post = make_post(body="Three [short](https://example.com) words.")
    assert analyse_post(post.pk) == {"words": 3, "reading_minutes": 1, "links": 1}
    analysis = post.analysis
    assert analysis.words == 3
    assert analysis.summary == "Three short words."
    assert analysis.links == ["https://example.com"]


def test_the_task_twice_is_the_same_as_once(make_post):
    post = make_post()
    assert analyse_post(post.pk) == analyse_post(post.pk)
    assert Analysis.objects.count() == 1


def test_the_task_follows_the_text(make_post):
    post = make_post(body="one")
    analyse_post(post.pk)
    post.body = "one two"
    post.save()
    analyse_post(post.pk)
    assert Analysis.objects.get().words == 2


@pytest.mark.django_db(transaction=True)
def test_the_post_is_locked_from_reading_to_storing(make_post):
    """Else of two tasks the one that read the older text may store last."""
    pk = make_post_without_broker(make_post).pk
    with CaptureQueriesContext(connection) as queries:
        analyse_post(pk)
    statements = [query["sql"] for query in queries]
    assert statements[0].startswith("BEGIN")  # IMMEDIATE on SQLite: nobody else writes
    assert statements[-1] == "COMMIT"
    assert ("FOR UPDATE" in statements[1]) == connection.features.has_select_for_update


@pytest.mark.django_db
def test_a_post_that_is_gone_is_no_failure(caplog):
    assert analyse_post(12345) is None
    assert "12345 is gone" in caplog.text
    assert not Analysis.objects.exists()


def test_an_analysis_is_current_until_the_post_changes(make_post):
    post = make_post()
    assert post.current_analysis is None
    analyse_post(post.pk)
    post = Post.objects.get()
    assert post.current_analysis == Analysis.objects.get()
    post.save()
    assert Post.objects.get().current_analysis is None


def test_an_analysis_of_an_older_text_that_ends_late_is_not_current(make_post):
    post = make_post()
    analyse_post(post.pk)
    # As if the post had been saved while the task ran: stored after, but read before.
    Post.objects.update(updated_at=timezone.now() - timedelta(seconds=5))
    assert Post.objects.get().current_analysis is None


def test_publishing_by_schedule_leaves_the_analysis_current(make_post):
    post = make_post(status="scheduled")
    analyse_post(post.pk)
    Post.objects.due().update(status="published")
    assert Post.objects.get().current_analysis is not None


def test_a_saved_post_sends_its_task_after_commit(make_post, django_capture_on_commit_callbacks):
    with patch("posts.signals.analyse_post.delay") as delay:
        with django_capture_on_commit_callbacks(execute=True):
            post = make_post()
            delay.assert_not_called()
        delay.assert_called_once_with(post.pk)


@pytest.mark.django_db(transaction=True)
def test_a_save_that_is_rolled_back_sends_nothing(make_post):
    post = make_post_without_broker(make_post)
    with patch("posts.signals.analyse_post.delay") as delay:
        with transaction.atomic():
            post.save()
            transaction.set_rollback(True)
        delay.assert_not_called()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("in_transaction", [True, False])
def test_a_broker_that_is_down_does_not_break_a_save(make_post, caplog, in_transaction):
    post = make_post_without_broker(make_post)
    with patch("posts.signals.analyse_post.delay", side_effect=OSError("no broker")):
        post.title = "Saved all the same"
        if in_transaction:
            with transaction.atomic():
                post.save()
        else:
            post.save()
    assert Post.objects.get().title == "Saved all the same"
    assert "no broker" in caplog.text


@pytest.mark.django_db
def test_loading_a_fixture_sends_nothing(make_post, django_capture_on_commit_callbacks):
    data = serializers.serialize("json", [make_post()])
    with django_capture_on_commit_callbacks() as callbacks:
        for item in serializers.deserialize("json", data):
            item.save()
    assert callbacks == []


def make_post_without_broker(make_post):
    with patch("posts.signals.analyse_post.delay"):
        return make_post()
