"""What Django's own fields do not offer."""

from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.db.models.fields.related_descriptors import ForwardOneToOneDescriptor
from kombu.utils.json import dumps, loads


class MessageField(models.TextField):
    """What a message carries, in the very JSON that Celery would send.

    It brings back datetime, date, time, Decimal, UUID and bytes. Tuples come back as lists, and
    keys of dicts as strings: as the worker sees them. Text, not the database's own JSON: that
    knows no NUL and no NaN.
    """

    def from_db_value(self, value, expression, connection):
        return None if value is None else loads(value)

    def get_prep_value(self, value):
        return None if value is None else dumps(value)


class ResultDescriptor(ForwardOneToOneDescriptor):
    """None, instead of an exception, as long as no result is stored."""

    def __get__(self, instance, cls=None):
        try:
            return super().__get__(instance, cls)
        except ObjectDoesNotExist:
            return None


class ResultField(models.OneToOneField):
    """A relation on the task id, which is there before the row that it leads to.

    The field ``result`` holds a ``task_id``, where Django would call it ``result_id``. There is no
    constraint in the database, because the call is stored first. It can be null for Django's sake
    alone: a join has to keep the calls that have no result yet.
    """

    forward_related_accessor_class = ResultDescriptor

    def __init__(self, to, **kwargs):
        kwargs |= {"to_field": "task_id", "null": True, "db_constraint": False}
        super().__init__(to, **kwargs)

    def deconstruct(self):
        name, path, args, kwargs = super().deconstruct()
        for fixed in ("to_field", "null", "db_constraint"):
            kwargs.pop(fixed, None)
        return name, path, args, kwargs

    def get_attname(self):
        return "task_id"
