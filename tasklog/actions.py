"""What is done with chosen rows in the admin."""

from django.contrib import messages
from django.contrib.admin.utils import model_ngettext
from django.utils.html import format_html, format_html_join
from kombu.exceptions import OperationalError

from .models import NotReplayable

NAMED = 10  # rows that a message names


def do_each(model_admin, request, rows, done, act):
    """Do something with each row. Tell of how many it was done, and why not of others.

    Args:
        model_admin (ModelAdmin), request (HttpRequest): of the list.
        rows (Iterable[Model]): the chosen ones.
        done (str): the word for it, as in "2 calls were retried."
        act (Callable[[Model], str]): does it, and returns a line about it.
    """
    lines, refused = [], []
    for row in rows:
        try:
            lines.append(act(row))
        except OperationalError as error:
            text = f"The broker is away ({error}). {row} and what follows it were left alone."
            model_admin.message_user(request, text, messages.ERROR)
            break
        except Exception as error:  # a queue that is gone, say: the others go on
            refused.append(str(error) if isinstance(error, NotReplayable) else f"{row}: {error!r}")
    for level, said, word in (
        (messages.SUCCESS, lines, done),
        (messages.WARNING, refused, f"not {done}"),
    ):
        if said:
            number = len(said)
            what = f"{model_ngettext(model_admin.opts, number)} {'was' if number == 1 else 'were'}"
            items = format_html_join("", "<li>{}</li>", [(line,) for line in said[:NAMED]])
            if number > NAMED:
                items += format_html("<li>… and {} more</li>", number - NAMED)
            text = format_html("{} {} {}.<ul>{}</ul>", number, what, word, items)
            model_admin.message_user(request, text, level)
