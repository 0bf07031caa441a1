"""What querysets do not offer: conditional stores in one statement, deletes in batches."""

from functools import cache

from celery import current_app, states
from django.db import connections

FINISHED = sorted(states.READY_STATES)  # FAILURE, REVOKED, SUCCESS
BATCH = 5000  # rows in one statement; SQLite takes 32,766 parameters


def store(model, alias, task_id, values):
    """Write the row of a task in one statement, unless that would go backwards.

    Django's `bulk_create` knows no condition.

    Args:
        model (type[Model]): TaskResult.
        alias (str): the database.
        task_id (str): whose row.
        values (dict): the fields to store.

    Returns:
        bool: whether anything was written.
    """
    connection, ends = connections[alias], values["status"] in FINISHED
    unless = [states.SUCCESS] if ends else FINISHED
    update, insert = statements(model, alias, tuple(values), len(unless))
    # Each insert uses up one of the table's 2³¹ ids, even where a row is there.
    if values["status"] != states.STARTED and current_app.conf.task_track_started:
        params = [
            model._meta.get_field(name).get_db_prep_save(value, connection)
            for name, value in values.items()
        ]
        if execute(alias, update, [*params, task_id, *unless], lasting=ends):
            return True
    row = model(task_id=task_id, **values)
    params = [
        field.get_db_prep_save(field.pre_save(row, add=True), connection)
        for field in stored_fields(model)
    ]
    return execute(alias, insert, [*params, *unless], lasting=ends)


@cache
def statements(model, alias, changed, finals):
    """Return UPDATE and INSERT. Kept: to make the SQL takes longer than to run it."""
    quote = connections[alias].ops.quote_name
    table = quote(model._meta.db_table)
    task_id, status, *changed = (
        quote(model._meta.get_field(name).column) for name in ("task_id", "status", *changed)
    )
    columns = [quote(field.column) for field in stored_fields(model)]
    unless = f"{table}.{status} NOT IN ({', '.join(['%s'] * finals)})"
    return (
        f"UPDATE {table} SET {', '.join(f'{name} = %s' for name in changed)} "
        f"WHERE {task_id} = %s AND {unless}",
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))}) "
        f"ON CONFLICT ({task_id}) DO UPDATE "
        f"SET {', '.join(f'{name} = EXCLUDED.{name}' for name in changed)} WHERE {unless}",
    )


def stored_fields(model):
    return [field for field in model._meta.concrete_fields if not field.primary_key]


def execute(alias, sql, params, lasting):
    """Run an UPDATE or INSERT. Returns whether it changed a row (bool).

    What is not `lasting` (bool) does not wait for PostgreSQL's disk: a power cut may take it.
    """
    connection = connections[alias]
    if not lasting and connection.vendor == "postgresql" and connection.get_autocommit():
        sql += " RETURNING set_config('synchronous_commit', 'off', true)"
    with connection.cursor() as cursor:
        prepares = getattr(connection.connection, "prepare_threshold", None) is not None
        if prepares and not connection.queries_logged:  # which it cannot show
            from psycopg import Cursor

            cursor.cursor = Cursor(connection.connection)  # Django's prepares nothing
        cursor.execute(sql, params)
        return cursor.rowcount > 0


def storable(model, values):
    """Return values (dict) for a model as every database takes them: cut where too long.

    NUL, which PostgreSQL refuses, and lone surrogates, which UTF-8 does, are escaped.
    """
    kept = {}
    for name, value in values.items():
        if isinstance(value, str):
            value = value.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()
            value = value[: model._meta.get_field(name).max_length]
        kept[name] = value
    return kept


def delete_in_batches(queryset, label=None):
    """Delete the rows of a QuerySet, each batch in a transaction of its own.

    Returns how many (int), or how many of the model with that label (str) went with them.
    """
    deleted, model = 0, queryset.model
    rows = model._base_manager.using(queryset.db)
    while batch := list(queryset.values_list("pk", flat=True)[:BATCH]):
        deleted += rows.filter(pk__in=batch).delete()[1].get(label or model._meta.label, 0)
    return deleted


def in_batches(values):
    """Yield lists of at most BATCH values."""
    values = list(values)
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]
