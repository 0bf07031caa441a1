"""What Django's own fields do not offer."""

from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.db.models.fields.related_descriptors import ForwardOneToOneDescriptor
from kombu.utils.json import dumps, loads

# What kombu's JSON raises, when it writes and when it reads.
UNCARRIED = (TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


class Unreadable(str):
    """A text with a type that kombu does not know here."""


class MessageField(models.TextField):
    """What a message carries, in the JSON that Celery sends: with datetime, Decimal, UUID, bytes.

    Text, not the database's own JSON: that knows no NUL and no NaN. What is Unreadable hides
    no other row.
    """

    def from_db_value(self, value, expression, connection):
        try:
            return None if value is None else loads(value)
        except UNCARRIED:
            return Unreadable(value)

    def get_prep_value(self, value):
        return value if value is None or isinstance(value, Unreadable) else dumps(value)


class ResultDescriptor(ForwardOneToOneDescriptor):
    """None as long as no result is stored."""

    def __get__(self, instance, cls=None):
        try:
            return super().__get__(instance, cls)
        except ObjectDoesNotExist:
            return None


class ResultField(models.OneToOneField):
    """A relation on ``task_id``, which is there before the row that it leads to.

    So it needs ``db_constraint=False``, and ``null=True``: joins keep calls without a result.
    """

    forward_related_accessor_class = ResultDescriptor

    def get_attname(self):
        return "task_id"
