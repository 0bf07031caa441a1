"""What Django's querysets do not offer: a conditional upsert, and deleting in batches."""

from django.db import connections
from django.db.models.constants import OnConflict
from django.db.models.sql import InsertQuery

BATCH = 5000  # rows in one statement; SQLite takes 32,766 parameters


def upsert(row, alias, update, unless):
    """Insert a TaskResult, or update the one of its task unless that has one of some states.

    `bulk_create(update_conflicts=True)` knows no condition, and opens a transaction.

    Args:
        row (TaskResult): what to insert.
        alias (str): the database.
        update (Iterable[str]): the fields to update.
        unless (list[str]): the states that stay.

    Returns:
        bool: whether anything was written.
    """
    meta = row._meta
    query = InsertQuery(
        type(row),
        on_conflict=OnConflict.UPDATE,
        update_fields=[meta.get_field(name) for name in update],
        unique_fields=[meta.get_field("task_id")],
    )
    query.insert_values([field for field in meta.concrete_fields if not field.primary_key], [row])
    ((sql, params),) = query.get_compiler(using=alias).as_sql()
    quote = connections[alias].ops.quote_name
    marks = ", ".join(["%s"] * len(unless))
    condition = f"{quote(meta.db_table)}.{quote('status')} NOT IN ({marks})"
    with connections[alias].cursor() as cursor:
        cursor.execute(f"{sql} WHERE {condition}", [*params, *unless])
        return cursor.rowcount > 0


def storable(model, values):
    """Return values for the fields of a model that every database takes.

    NUL, which PostgreSQL refuses, and lone surrogates, which UTF-8 has not, are escaped. What is
    longer than its field is cut.
    """
    return {
        name: escape(value)[: model._meta.get_field(name).max_length]
        if isinstance(value, str)
        else value
        for name, value in values.items()
    }


def escape(text):
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()


def delete_in_batches(queryset):
    """Delete rows, each batch in a transaction of its own.

    Returns:
        int: how many, without those that went with them.
    """
    deleted = 0
    rows = queryset.model._base_manager.using(queryset.db)
    while batch := list(queryset.values_list("pk", flat=True)[:BATCH]):
        deleted += rows.filter(pk__in=batch).delete()[1].get(queryset.model._meta.label, 0)
    return deleted


def in_batches(values):
    """Yield lists of at most BATCH values."""
    values = list(values)
    for start in range(0, len(values), BATCH):
        yield values[start : start + BATCH]
