"""Results are JSON in the database, and the ORM looks into them: on SQLite and on PostgreSQL."""

import pytest
from celery import states
from celery.utils import uuid
from django.db.models import F, IntegerField, Max
from django.db.models.functions import Cast

from tasklog.models import TaskCall

pytestmark = pytest.mark.django_db(databases="__all__")


@pytest.fixture(scope="module", params=["default", "postgres"])
def alias(request, django_db_setup):
    """The test database, and a PostgreSQL."""
    if request.param == "default":
        return "default"
    return request.getfixturevalue("postgres_alias")


@pytest.fixture
def calls(alias):
    return TaskCall.objects.using(alias).with_value()


@pytest.fixture
def ended(alias, backend, tasklog):
    """Write down a call that has ended: ``ended({"words": 2})`` returns its id."""

    def end(result, name="a.task", state=states.SUCCESS, **choices):
        call = TaskCall.objects.using(alias).create(task_id=uuid(), name=name, args=[], kwargs={})
        with tasklog(RESULTS_DATABASE=alias, **choices):
            backend.store_result(call.task_id, result, state)
        return call.task_id

    return end


def ids(calls):
    return set(calls.values_list("task_id", flat=True))


def test_numbers_texts_lists_and_what_is_in_them_are_found(calls, ended):
    short = ended({"words": 2, "links": ["https://a.example", {"of": None}]})
    long = ended({"words": 2000, "title": "Größe \U0001f600 \"'\\"})
    plain = ended("a text")
    ended(None)
    assert ids(calls.filter(value__words__gt=100)) == {long}
    assert ids(calls.filter(value__words=2)) == {short}
    assert ids(calls.filter(value__title="Größe \U0001f600 \"'\\")) == {long}
    assert ids(calls.filter(value__links__0="https://a.example")) == {short}
    assert ids(calls.filter(value__links__1__of=None)) == {short}
    assert ids(calls.filter(value__has_key="words")) == {short, long}
    assert ids(calls.filter(value="a text")) == {plain}
    assert calls.get(task_id=long).value == {"words": 2000, "title": "Größe \U0001f600 \"'\\"}
    words = calls.annotate(words=F("value__words")).filter(words__isnull=False)
    assert list(words.order_by("-words").values_list("words", flat=True)) == [2000, 2]
    number = Cast(F("value__words"), IntegerField())
    assert calls.aggregate(most=Max(number)) == {"most": 2000}


def test_failures_are_found_by_their_exception(calls, ended):
    wrong = ended(TypeError("no"), state=states.FAILURE)
    ended(ValueError("no"), state=states.FAILURE)
    assert ids(calls.filter(value__exc_type="TypeError")) == {wrong}


def test_a_call_that_no_worker_has_begun_has_none(alias, calls):
    TaskCall.objects.using(alias).create(task_id=uuid(), name="a.task", args=[], kwargs={})
    assert calls.get().value is None


@pytest.mark.parametrize(
    "unreadable",
    [
        float("nan"),
        {"mean": -float("inf"), "n": 0},
        [1, float("inf")],
        "null\0character",
        "\ud83d",
        "\ud83dx",
        "x\ude00",
    ],
    ids=ascii,
)
def test_what_the_database_cannot_read_ends_no_query(calls, ended, unreadable):
    odd = ended({"words": unreadable})
    good = ended({"words": 2})
    assert ids(calls.filter(value__words=2)) == {good}
    assert calls.get(task_id=odd).value is None


def test_another_serialiser_is_left_out(calls, ended, alias):
    pickled = ended({"words": 2})
    model = TaskCall._meta.get_field("result").related_model
    values = {"content_type": "application/x-python-serialize", "result": "gAR9lC4="}
    model.objects.using(alias).filter(task_id=pickled).update(**values)
    assert calls.get().value is None


def test_words_that_only_look_so_are_read(calls, ended):
    texts = ["NaN", "Infinity is long", "Banana", "NaN.", r"C:\u0041", "\U0001f600\U0001f600"]
    for text in texts:
        ended({"text": text})
    assert sorted(call.value["text"] for call in calls) == sorted(texts)


def test_forced_json_is_found_too(calls, ended):
    forced = ended({1, 2}, FORCE_JSON=True)
    ended([1, 2], FORCE_JSON=True)
    assert ids(calls.filter(value__forced_json=True)) == {forced}
    assert calls.get(task_id=forced).value == {"value": "{1, 2}", "forced_json": True}
