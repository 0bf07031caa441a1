"""What django-celery-results' own tests ask of its backend, asked of tasklog's (checklist R)."""

import pickle
import subprocess
import sys
from datetime import timedelta

import pytest
from celery import Celery, current_app, states, uuid
from celery.app.task import Context
from celery.exceptions import BackendGetMetaError, BackendStoreError, ChordError
from celery.result import AsyncResult, GroupResult
from celery.utils.serialization import b64decode
from django.db import InterfaceError, OperationalError, ProgrammingError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_celery_results.backends import DatabaseBackend as StockBackend
from django_celery_results.models import ChordCounter, TaskResult
from django_celery_results.models import GroupResult as SavedGroup

from blog.celery import square
from tasklog.backends import DatabaseBackend
from tasklog.models import TaskCall
from tests.services import ROOT
from tests.tasks import total

pytestmark = pytest.mark.django_db


def stored(task_id):
    return TaskResult.objects.get(task_id=task_id)


@pytest.fixture(params=["json", "pickle"])
def serializer(request, configure):
    """Both kinds: pickle is binary."""
    configure(result_serializer=request.param, accept_content={"json", "pickle"})
    return request.param


class Thing:
    """Something that only pickle carries."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Thing) and other.value == self.value


# --- R1-R3 ----------------------------------------------------------------------------------------


def test_it_is_the_stock_backend_with_its_tables(backend):
    """R1."""
    assert isinstance(backend, StockBackend)
    assert (backend.TaskModel, backend.GroupModel) == (TaskResult, SavedGroup)
    assert backend.subpolling_interval == 0.5


@pytest.mark.django_db(transaction=True)
def test_what_is_retried(backend):
    """R2. The connection that broke is closed."""
    connection.ensure_connection()
    assert not backend.exception_safe_to_retry(ProgrammingError())
    assert not backend.exception_safe_to_retry(ValueError())
    assert connection.connection is not None
    assert backend.exception_safe_to_retry(InterfaceError())
    assert connection.connection is None
    connection.ensure_connection()
    assert backend.exception_safe_to_retry(OperationalError())
    assert connection.connection is None


def test_nothing_is_retried_in_a_transaction(backend):
    """It is lost; each further try would fail too."""
    assert connection.in_atomic_block
    assert not backend.exception_safe_to_retry(OperationalError())
    assert connection.connection is not None


@pytest.mark.parametrize("extended", [True, False])
def test_extended_properties(configure, backend, extended):
    """R3."""
    configure(result_extended=extended)
    task_id = uuid()
    request = Context(
        id=task_id,
        task="my_task",
        args=["a", 1],
        kwargs={"c": 6},
        argsrepr="['a', 1]",
        kwargsrepr="{'c': 6}",
        hostname="w@here",
        periodic_task_name="my_periodic_task",
    )
    backend.mark_as_failure(task_id, KeyError("k"), "Traceback …", request=request)
    row, result = stored(task_id), AsyncResult(task_id)
    names = ["task_name", "worker", "periodic_task_name", "task_args", "task_kwargs"]
    found = [getattr(row, name) for name in names]
    expected = ["my_task", "w@here", "my_periodic_task", "\"['a', 1]\"", "\"{'c': 6}\""]
    assert found == (expected if extended else [None] * 5)
    assert (result.args, result.kwargs) == (("['a', 1]", "{'c': 6}") if extended else (None, None))
    assert row.traceback == "Traceback …"


def test_secrets_stay_hidden(backend):
    """R3: the caller's `argsrepr` wins over the arguments."""
    task_id = uuid()
    secret = {"args": ["password"], "kwargs": {"p": "password"}}
    request = Context(id=task_id, task="t", argsrepr="***", kwargsrepr="***", **secret)
    backend.mark_as_done(task_id, 1, request=request)
    row = TaskResult.objects.filter(task_id=task_id).values().get()
    assert "password" not in str(row)
    assert (AsyncResult(task_id).args, AsyncResult(task_id).kwargs) == ("***", "***")


def test_the_arguments_of_the_old_message_protocol(serializer, configure, monkeypatch):
    """R3: without `argsrepr` the arguments themselves."""
    backend = DatabaseBackend(current_app._get_current_object())
    task_id = uuid()
    arguments = {"args": ["a", 1, True], "kwargs": {"c": 6}}
    backend.mark_as_done(task_id, 1, request=Context(id=task_id, task="t", **arguments))
    meta = backend.get_task_meta(task_id)
    assert (meta["args"], meta["task_args"]) == (["a", 1, True], ["a", 1, True])
    assert (meta["kwargs"], meta["task_kwargs"]) == ({"c": 6}, {"c": 6})


def test_arguments_that_an_old_version_stored(backend):
    """R6: a plain repr is given back as it is."""
    TaskResult.objects.create(
        task_id="old", status="SUCCESS", result="1", task_args="('a',)", task_kwargs="{'b': 1}"
    )
    assert (AsyncResult("old").args, AsyncResult("old").kwargs) == ("('a',)", "{'b': 1}")


# --- R4-R7 ----------------------------------------------------------------------------------------


def test_what_a_task_puts_into_its_request(backend):
    """R4: ``self.request.meta``."""
    task_id = uuid()
    request = Context(id=task_id, task="t", meta={"key": "value"})
    backend.store_result(task_id, None, states.STARTED, request=request)
    assert backend.get_task_meta(task_id)["key"] == "value"
    backend.mark_as_done(task_id, None, request=request)
    assert backend.get_task_meta(task_id)["key"] == "value"
    assert stored(task_id).meta == '{"key": "value", "children": []}'


def test_the_dates(backend):
    """R5."""
    task_id = uuid()
    backend.store_result(task_id, None, states.PENDING)
    first = stored(task_id)
    assert first.date_started is None
    backend.mark_as_started(task_id)
    second = stored(task_id)
    assert second.date_created == first.date_created
    assert first.date_done < second.date_done
    assert second.date_started is not None
    backend.mark_as_done(task_id, 42)
    third = stored(task_id)
    assert (third.date_created, third.date_started) == (first.date_created, second.date_started)
    assert second.date_done < third.date_done


def test_results_come_back(serializer, configure, monkeypatch):
    """R6, R7: each kind of result, each serialiser."""
    backend = DatabaseBackend(current_app._get_current_object())
    values = [{"foo": "baz", "bar": True}, "foo", None, 0, "", [], [1, [2]], 1.5, "ä\n"]
    values += [b"foo", Thing(1), {"a": Thing(2)}] if serializer == "pickle" else []
    for value in values:
        task_id = uuid()
        backend.mark_as_done(task_id, value)
        meta = backend.get_task_meta(task_id, cache=False)
        assert (meta["status"], meta["result"]) == (states.SUCCESS, value)
        assert stored(task_id).content_encoding == ("binary" if serializer == "pickle" else "utf-8")


def test_binary_content(configure):
    """R7."""
    configure(result_serializer="pickle", accept_content={"json", "pickle"})
    backend = DatabaseBackend(current_app._get_current_object())
    content_type, encoding, content = backend.encode_content({"a": Thing(1)})
    assert (content_type, encoding) == ("application/x-python-serialize", "binary")
    assert pickle.loads(b64decode(content)) == {"a": Thing(1)}
    row = TaskResult(content_encoding=encoding, content_type=content_type)
    assert backend.decode_content(row, content) == {"a": Thing(1)}
    assert backend.decode_content(row, None) is None


def test_failures_come_back(serializer, configure):
    """R6."""
    backend = DatabaseBackend(current_app._get_current_object())
    task_id = uuid()
    backend.mark_as_failure(task_id, KeyError("foo"), "Traceback …")
    assert backend.get_state(task_id) == states.FAILURE
    assert isinstance(backend.get_result(task_id), KeyError)
    assert backend.get_traceback(task_id) == "Traceback …"


def test_a_state_of_ones_own(backend):
    """R6."""
    task_id = uuid()
    assert backend.get_state(task_id) == states.PENDING
    assert not backend.task_result_exists(task_id)
    backend.store_result(task_id, {"progress": 10}, "Progress")
    assert (backend.get_state(task_id), backend.get_result(task_id)) == (
        "Progress",
        {"progress": 10},
    )
    assert backend.task_result_exists(task_id)


def test_children_come_back(backend):
    """R6."""
    task_id = uuid()
    request = Context(id=task_id, task="t")
    request._children = [AsyncResult("child"), GroupResult("group", [AsyncResult("member")])]
    backend.mark_as_done(task_id, 1, request=request)
    child, group = AsyncResult(task_id).children
    assert (child.id, group.id, group[0].id) == ("child", "group", "member")


# --- R8-R10 ---------------------------------------------------------------------------------------


def test_forgetting_twice(backend):
    """R8."""
    task_id = uuid()
    backend.mark_as_done(task_id, {"foo": "bar"})
    result = AsyncResult(task_id)
    assert result.get() == {"foo": "bar"}
    result.forget()
    result.forget()
    assert AsyncResult(task_id).result is None
    assert not TaskResult.objects.exists()


@pytest.mark.parametrize("expires", [3600, 3600.0, timedelta(hours=1)])
def test_what_has_expired_goes(backend, expires):
    """R9: seconds or a timedelta."""
    backend.expires = backend.prepare_expires(expires)
    for name, age in (("old", timedelta(hours=2)), ("new", timedelta(minutes=30))):
        backend.mark_as_done(name, 1)
        GroupResult(name, [AsyncResult(name)]).save()
        TaskResult.objects.filter(task_id=name).update(date_done=timezone.now() - age)
        SavedGroup.objects.filter(group_id=name).update(date_done=timezone.now() - age)
    backend.cleanup()
    assert TaskResult.objects.get().task_id == "new"
    assert SavedGroup.objects.get().group_id == "new"


def test_groups(serializer, configure):
    """R10: saved, restored, nested, saved again, deleted twice."""
    backend = DatabaseBackend(current_app._get_current_object())
    nested = GroupResult(uuid(), [AsyncResult(uuid()), AsyncResult(uuid())])
    group = GroupResult(uuid(), [nested, AsyncResult(uuid())])
    assert backend.restore_group(group.id) is None
    group.save(backend=backend)
    assert backend.restore_group(group.id) == group
    group.save(backend=backend)
    backend.delete_group(group.id)
    backend.delete_group(group.id)
    assert backend.restore_group(group.id) is None


# --- R11 ------------------------------------------------------------------------------------------


@pytest.fixture
def header(backend):
    """A chord of two, written down as Celery does before it sends the header."""
    header = GroupResult(uuid(), [AsyncResult(uuid()), AsyncResult(uuid())])
    backend.apply_chord((header.id, header.results), total.s())
    return header


@pytest.fixture
def member(header):
    """The request of a member: ``member(0)``. They share the body, and its id."""
    body = dict(total.s().set(task_id=uuid()))

    def make(number):
        return Context(
            id=header[number].id, task=square.name, group=header.id, chord=body, errbacks=[]
        )

    make.body = AsyncResult(body["options"]["task_id"])
    return make


@pytest.fixture
def bodies(messages):
    """The ids of the bodies that were sent."""
    return lambda: [message["id"] for message in messages()]


@pytest.mark.django_db(transaction=True)
def test_the_body_is_sent_after_the_last(backend, header, member, bodies):
    """R11."""
    assert ChordCounter.objects.get(group_id=header.id).count == 2
    backend.mark_as_done(header[0].id, 1, request=member(0))
    assert ChordCounter.objects.get(group_id=header.id).count == 1
    assert not bodies()
    backend.mark_as_done(header[1].id, 2, request=member(1))
    assert not ChordCounter.objects.exists()
    assert bodies() == [member.body.id]


@pytest.mark.django_db(transaction=True)
def test_the_statements_of_a_chord(backend, redis_server, tasklog):
    """Three for a member (started, stored, counted down) and eight for the chord."""
    ids = [uuid() for _ in range(10)]
    body = dict(total.s().set(task_id=uuid()))
    with tasklog(), CaptureQueriesContext(connection) as asked:
        header = GroupResult(uuid(), [AsyncResult(task_id) for task_id in ids])
        backend.apply_chord((header.id, header.results), total.s())
        for task_id in ids:
            request = Context(id=task_id, task=square.name, group=header.id, chord=body)
            backend.store_result(task_id, {}, states.STARTED, request=request)
            backend.mark_as_done(task_id, 1, request=request)
    assert not ChordCounter.objects.exists()
    assert len(asked) <= 3 * len(ids) + 8


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("order", [(0, 0, 1), (0, 0, 0, 1, 1), (1, 1, 0, 0, 1)])
def test_a_member_that_is_delivered_again(backend, header, member, bodies, order):
    """R11: the body is sent once, and not before the last."""
    seen = set()
    for number in order:
        seen.add(number)
        backend.mark_as_done(header[number].id, number, request=member(number))
        assert len(bodies()) == (len(seen) == 2)


@pytest.mark.django_db(transaction=True)
def test_two_who_find_all_finished(backend, header, member, bodies, monkeypatch):
    """R11: the body is sent once."""
    look, others = backend.finished, iter([member(0)])

    def look_together(*args):
        found = look(*args)
        for other in others:
            backend._count_down(other)
        return found

    backend.mark_as_done(header[0].id, 1, request=member(0))
    monkeypatch.setattr(backend, "finished", look_together)
    backend.mark_as_done(header[1].id, 2, request=member(1))
    assert len(bodies()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_sending_that_breaks_off_can_be_made_good(backend, header, member, bodies, monkeypatch):
    """R11: the counter goes with the sending or not at all, so that the member may come again."""
    backend.mark_as_done(header[0].id, 1, request=member(0))
    with monkeypatch.context() as patch:
        patch.setattr(backend, "_send_body", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            backend.mark_as_done(header[1].id, 2, request=member(1))
    assert not bodies()
    backend.mark_as_done(header[1].id, 2, request=member(1))
    assert len(bodies()) == 1


@pytest.mark.django_db(transaction=True)
def test_a_failed_member_fails_the_body(backend, header, member, bodies):
    """R11."""
    backend.mark_as_failure(header[0].id, ValueError("no"), request=member(0))
    assert member.body.state == states.PENDING
    backend.mark_as_done(header[1].id, 2, request=member(1))
    assert not bodies()
    assert member.body.state == states.FAILURE
    assert isinstance(member.body.result, ChordError)
    assert str(member.body.result) == f"Dependency {header[0].id} raised ValueError('no')"
    assert not ChordCounter.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_body_that_cannot_be_sent_fails(backend, header, member, broker_away, tasklog):
    """R11."""
    with tasklog(OUTBOX=False):
        backend.mark_as_done(header[0].id, 1, request=member(0))
        backend.mark_as_done(header[1].id, 2, request=member(1))
    assert member.body.state == states.FAILURE
    assert "Callback error" in str(member.body.result)


@pytest.mark.django_db(transaction=True)
def test_a_body_in_the_outbox_waits_for_the_broker(backend, header, member, broker_away, tasklog):
    with tasklog(OUTBOX=True):
        backend.mark_as_done(header[0].id, 1, request=member(0))
        backend.mark_as_done(header[1].id, 2, request=member(1))
    assert member.body.state == states.PENDING
    assert TaskCall.objects.unsent().get().task_id == member.body.id
    assert not ChordCounter.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_member_that_ignores_its_result(backend, header, member, bodies):
    """The body needs it all the same; with the stock backend it is never called."""
    for number in (0, 1):
        request = member(number)
        request.ignore_result = True
        backend.mark_as_done(header[number].id, number, request=request)
    assert len(bodies()) == 1


def test_a_member_whose_chord_is_unknown(backend, caplog):
    """R11: nothing happens."""
    backend.on_chord_part_return(Context(id=uuid(), group=uuid()), states.SUCCESS, 1)
    assert "delivered twice" in caplog.text


# --- R12, R13 -------------------------------------------------------------------------------------


def test_it_is_chosen_by_its_import_path():
    """R12. The stock one keeps its alias."""
    app = Celery("by path", backend="tasklog.backends:DatabaseBackend", set_as_current=False)
    assert type(app.backend) is DatabaseBackend
    app = Celery("by alias", backend="django-db", set_as_current=False)
    assert type(app.backend) is StockBackend


@pytest.fixture
def failing(backend, configure, monkeypatch):
    """Let a method fail, with OperationalError, a number of times: ``failing(name, 2)``."""

    def fail(name, times):
        method, failures = getattr(backend, name), iter(range(times))

        def wrapped(*args, **kwargs):
            if next(failures, None) is not None:
                raise OperationalError("server closed the connection unexpectedly")
            return method(*args, **kwargs)

        monkeypatch.setattr(backend, name, wrapped)

    monkeypatch.setattr(backend, "_sleep", lambda seconds: None)
    monkeypatch.setattr(backend, "max_retries", 5)
    return fail


@pytest.mark.django_db(transaction=True)
def test_stores_and_reads_are_tried_again(backend, failing):
    """R13."""
    for name in ("_write", "_get_task_meta_for", "finished", "_forget"):
        failing(name, 3)
    task_id = uuid()
    backend.mark_as_done(task_id, 42)
    assert AsyncResult(task_id).state == "SUCCESS"
    assert AsyncResult(task_id).get(timeout=1) == 42
    assert GroupResult(uuid(), [AsyncResult(task_id)]).get(timeout=1) == [42]
    backend.forget(task_id)
    assert not TaskResult.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_chords_are_tried_again(backend, failing, header, member, bodies):
    failing("_count_down", 3)
    for number in (0, 1):
        backend.mark_as_done(header[number].id, number, request=member(number))
    assert len(bodies()) == 1


@pytest.mark.django_db(transaction=True)
def test_the_tries_come_to_an_end(backend, failing):
    failing("_write", 100)
    failing("_get_task_meta_for", 100)
    with pytest.raises(BackendStoreError):
        backend.mark_as_done(uuid(), 42)
    with pytest.raises(BackendGetMetaError):
        backend.get_task_meta(uuid())


@pytest.mark.django_db(transaction=True)
def test_without_the_setting_nothing_is_tried_again(backend, failing):
    backend.always_retry = False
    failing("_write", 1)
    with pytest.raises(OperationalError):
        backend.mark_as_done(uuid(), 42)


def test_it_can_be_pickled(backend):
    """As Celery's own backends can."""
    assert type(pickle.loads(pickle.dumps(backend))) is DatabaseBackend


def test_importing_it_needs_no_database():
    """A worker may start before its database."""
    code = "import django; django.setup(); import tasklog.backends; from blog.celery import app"
    code += "; tasklog.backends.DatabaseBackend(app)"
    env = {"DJANGO_SETTINGS_MODULE": "blog.settings", "DEBUG": "true", "ENV_FILE": "/dev/null"}
    env["DATABASE_URL"] = "postgres://nobody@127.0.0.1:1/nothing"
    subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True)
