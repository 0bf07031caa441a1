"""What is stored of a call is what a worker would get, whatever the arguments are.

EXAMPLES=10000 looks further than the suite does.
"""

import os
from datetime import UTC, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kombu import serialization
from kombu.exceptions import DecodeError, EncodeError

from tasklog.fields import MessageField
from tasklog.models import TaskCall
from tasklog.record import freeze

from .tasks import describe

EXAMPLES = int(os.environ.get("EXAMPLES", 100))
# No deadline and no database: a machine under load is no failure, and a failure prints how to
# repeat it.
in_memory = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
in_rows = settings(in_memory, max_examples=max(EXAMPLES // 5, 1))

# Any text: NUL, lone surrogates, what is outside of Unicode's first plane.
texts = st.text(st.characters())
zones = st.sampled_from([None, UTC, ZoneInfo("Europe/Berlin"), timezone(timedelta(seconds=19_801))])
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.binary()
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times()
    | st.decimals()
    | st.uuids()
)
values = st.recursive(
    plain, lambda v: st.lists(v) | st.tuples(v, v) | st.dictionaries(texts, v), max_leaves=10
)
calls = st.tuples(st.lists(values, max_size=4), st.dictionaries(texts, values, max_size=4))

# Dicts that look as if kombu had written them: a type that it knows, or does not, and any value.
types = st.sampled_from(["datetime", "date", "time", "decimal", "uuid", "bytes", "base64"]) | values
envelopes = st.fixed_dictionaries({"__type__": types, "__value__": values})
texts_in_envelopes = st.builds(
    lambda kind, value: {"__type__": kind, "__value__": value},
    st.sampled_from(["datetime", "date", "bytes", "decimal"]),
    st.dates().map(str) | st.integers().map(str) | texts,
)
lookalikes = st.recursive(
    envelopes | texts_in_envelopes, lambda v: st.lists(v | values), max_leaves=5
)


def sent(args, kwargs):
    """What a worker gets: encoded and decoded by kombu, as a producer and a consumer do."""
    content_type, encoding, body = serialization.dumps((args, kwargs, {}), "json")
    arguments = serialization.loads(body, content_type, encoding, accept=["application/json"])
    args, kwargs, _embed = arguments
    return args, kwargs


def stored(value):
    """What comes back from a column."""
    field = MessageField()
    return field.from_db_value(field.get_prep_value(value), None, None)


def assert_same(one, other):
    """Equal, and of the same types at each depth: 1 == True == 1.0, but not here."""
    assert repr(one) == repr(other)


@in_memory
@given(calls)
def test_what_is_stored_is_what_a_worker_gets(call):
    expected = sent(*call)
    args, kwargs, _options = freeze("task", *call, {})
    assert_same((args, kwargs), expected)
    args, kwargs = stored(args), stored(kwargs)
    assert_same((args, kwargs), expected)
    assert_same((stored(args), stored(kwargs)), expected)
    assert_same(sent(args, kwargs), expected)


@pytest.mark.django_db
@in_rows
@given(calls)
def test_rows_keep_what_a_worker_gets(call):
    result = describe.apply_async(*call, countdown=3600)
    row = TaskCall.objects.get(task_id=result.id)
    assert_same((row.args, row.kwargs), sent(*call))
    row.save()
    row.refresh_from_db()
    assert_same((row.args, row.kwargs), sent(*call))
    again = TaskCall.objects.get(task_id=row.retry().id)  # not sent: the test is a transaction
    assert_same((again.args, again.kwargs), sent(*call))


@in_memory
@given(lookalikes)
def test_what_looks_like_a_message_of_kombu_is_sent_as_it_is_or_refused(value):
    """Refused is only what no worker could read."""
    try:
        expected, _kwargs = sent([value], {})
    except DecodeError:
        with pytest.raises(EncodeError, match="argument 1, a "):
            freeze("task", [value], {}, {})
        return
    args, _kwargs, _options = freeze("task", [value], {}, {})
    assert_same(args, expected)
    assert_same(stored(args), expected)
    assert_same(sent(args, {})[0], expected)
