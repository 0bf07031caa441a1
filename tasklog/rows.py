"""What querysets do not offer: conditional stores in one statement, deletes in batches."""

from functools import cache

from django.db import connections

BATCH = 5000  # rows in one statement; SQLite takes 32,766 parameters


def store(row, alias, changed, unless, known):
    """Write the row of a task in one statement, unless that has one of some states.

    Django's `bulk_create(update_conflicts=True)` knows no condition, and opens a transaction.

    Args:
        row (TaskResult): what to store, with its ``task_id``.
        alias (str): the database.
        changed (Iterable[str]): the fields to store.
        unless (list[str]): the states that stay.
        known (bool): try an update first. Each insert uses up one of the table's 2³¹ ids, even
            where a row is there.

    Returns:
        bool: whether anything was written.
    """
    update, insert = statements(type(row), alias, tuple(changed), len(unless))
    if known:
        values = [prepared(row, row._meta.get_field(name), alias) for name in changed]
        if execute(alias, update, [*values, row.task_id, *unless]):
            return True
    values = [prepared(row, field, alias, add=True) for field in stored_fields(type(row))]
    return execute(alias, insert, [*values, *unless])


@cache
def statements(model, alias, changed, states):
    """Return UPDATE and INSERT. Kept: to make the SQL takes longer than to run it."""
    quote = connections[alias].ops.quote_name
    table = quote(model._meta.db_table)
    task_id, status, *changed = (
        quote(model._meta.get_field(name).column) for name in ("task_id", "status", *changed)
    )
    columns = [quote(field.column) for field in stored_fields(model)]
    unless = f"{table}.{status} NOT IN ({', '.join(['%s'] * states)})"
    return (
        f"UPDATE {table} SET {', '.join(f'{name} = %s' for name in changed)} "
        f"WHERE {task_id} = %s AND {unless}",
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))}) "
        f"ON CONFLICT ({task_id}) DO UPDATE "
        f"SET {', '.join(f'{name} = EXCLUDED.{name}' for name in changed)} WHERE {unless}",
    )


def stored_fields(model):
    return [field for field in model._meta.concrete_fields if not field.primary_key]


def prepared(row, field, alias, add=False):
    value = field.pre_save(row, add) if add else getattr(row, field.attname)
    return field.get_db_prep_save(value, connections[alias])


def execute(alias, sql, params):
    """Run a statement. Returns whether it changed a row (bool)."""
    with connections[alias].cursor() as cursor:
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
