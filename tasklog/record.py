"""A call, as it is written down: exact enough to be sent later, or again."""

from datetime import datetime, timedelta

from celery.utils.time import maybe_make_aware
from django.db.models.functions import Now
from kombu import Exchange, Queue
from kombu.exceptions import EncodeError
from kombu.utils.json import dumps, loads

from .fields import UNCARRIED

# Options for the moment of the call alone.
FLEETING = {
    "add_to_parent", "connection", "producer", "publisher", "replaced_task_nesting", "result_cls",
    "retries", "route_name", "router", "task_id", "task_type",
}  # fmt: skip

# Options whose None clears what the task has set.
CLEARED = ("expires", "soft_time_limit", "time_limit")

# Options that are kept where the caller hides arguments.
OPEN = ("argsrepr", "kwargsrepr", "queue", "priority", "expires", "time_limit", "soft_time_limit")


def record(app, name, args, kwargs, *, countdown, eta, options, waits):
    """Write down a call. Takes what `Celery.send_task` does; `options` (dict) have a ``task_id``.

    Args:
        app (Celery): routes the call.
        waits (bool): whether it waits in the table for its ETA.

    Returns:
        tuple[TaskCall, list]: the row, not stored yet, and args, kwargs and options of the message.

    Raises:
        kombu.exceptions.EncodeError: JSON cannot carry an argument or option.
        celery.exceptions.QueueNotFound: the queue is none of the site's.
    """
    from .models import TaskCall

    kept = resolve(app, name, args, kwargs, options)
    if (eta or countdown) and not waits:
        kept["eta"] = moment(app, countdown or eta)
    message = freeze(name, args, kwargs, kept)
    call = TaskCall(
        task_id=options["task_id"],
        name=name,
        queue=kept.get("queue", ""),
        ignore_result=bool(options.get("ignore_result")),
    )
    if waits:
        # Counted by the clock that says when it is over: the database's.
        call.eta = Now() + timedelta(seconds=countdown) if countdown else moment(app, eta)
    if hides_arguments(kept):
        call.options = {key: kept[key] for key in OPEN if kept.get(key) is not None}
    else:
        call.args, call.kwargs, call.options = message
    return call, message


def resolve(app, name, args, kwargs, options):
    """Return the options with all that depends on where and when the call is made."""
    router, route_name = options.get("router") or app.amqp.router, options.get("route_name") or name
    task = options.get("task_type") or app._tasks.get(name)
    kept = {
        key: value for key, value in options.items() if value is not None and key not in FLEETING
    }
    kept = router.route(kept, route_name, args, kwargs, task)
    kept |= {key: None for key in CLEARED if key in options and options[key] is None}
    for key, value in kept.items():
        if isinstance(value, (Queue, Exchange)):
            kept[key] = value.name
    if kept.get("expires") is not None:
        kept["expires"] = moment(app, kept["expires"])
    if parent := app.current_worker_task:
        kept.setdefault("root_id", parent.request.root_id or parent.request.id)
        kept.setdefault("parent_id", parent.request.id)
        if app.conf.task_inherit_parent_priority:
            kept.setdefault("priority", parent.request.delivery_info.get("priority"))
    kept.setdefault("reply_to", app.thread_oid)
    return kept


def moment(app, when):
    """Return an aware datetime for a datetime, its ISO form, or a number of seconds from now."""
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    if not isinstance(when, datetime):
        when = app.now() + timedelta(seconds=when)
    return maybe_make_aware(when, app.timezone)


def freeze(name, args, kwargs, options):
    """Return arguments and options as a worker would get them: through JSON, both ways.

    Some can be written and not read: Celery takes a dict with ``__type__`` and ``__value__`` for
    one of its own.

    Raises:
        kombu.exceptions.EncodeError: JSON cannot carry one. It is named.
    """
    args, kwargs = list(args or ()), dict(kwargs or {})
    try:
        return loads(dumps([args, kwargs, options]))
    except UNCARRIED as error:
        for kind, parts in (
            ("argument", enumerate(args, 1)),
            ("argument", kwargs.items()),
            ("option", options.items()),
        ):
            for key, value in parts:
                try:
                    loads(dumps(value))
                except UNCARRIED as reason:
                    raise EncodeError(
                        f"{name} was not called: {kind} {key!r}, a {type(value).__name__}, cannot "
                        f"be sent as JSON ({reason}). Pass an id or plain values."
                    ) from error
        raise EncodeError(f"{name} was not called: {error}") from error


def hides_arguments(options):
    """Whether the caller hides arguments, of this call or of one that follows it.

    https://docs.celeryq.dev/en/stable/userguide/tasks.html#hiding-sensitive-information-in-arguments
    """
    if isinstance(options, dict):
        hidden = options.get("argsrepr") is not None or options.get("kwargsrepr") is not None
        return hidden or any(map(hides_arguments, options.values()))
    return isinstance(options, (list, tuple)) and any(map(hides_arguments, options))
