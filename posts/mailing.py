"""One mail at a time, and what became of it. Used by the digest and the newsletter."""

import contextlib
import smtplib
from email.errors import MessageError

from django.core.mail import get_connection

# What Python raises for a message that is none: a line end in a header, an impossible address. Not
# Exception: Celery's soft time limit is one, and says nothing of the mail.
INVALID = (AssertionError, AttributeError, LookupError, MessageError, TypeError, ValueError)


class MailError(OSError):
    """A mail did not go out. One of the three below."""


class Refused(MailError):
    """This mail will never be taken: no such recipient, or no valid message. Do not try again."""


class NotTaken(MailError):
    """The server has certainly not taken this mail, and may do so later. Send it again."""


class MaybeSent(MailError):
    """The connection broke while the server had the mail in its hands. It may be out."""


class Mailer:
    """A connection to the mail server for many mails, opened anew when it breaks.

    Use it as a context manager. Which server, and whether there is one at all, says EMAIL_URL.
    """

    def __init__(self):
        self.backend = get_connection()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def open(self):
        """Connect, unless it is connected. Call it before a mail is claimed.

        Raises:
            NotTaken: there is no server, or it does not let the site in.
        """
        try:
            if self.backend.open():
                self._watch()
        except OSError as error:
            raise NotTaken(f"No mail server: {error}") from error

    def send(self, message):
        """Send a mail to its one recipient.

        Args:
            message (EmailMessage): what to send.

        Raises:
            Refused: the server answered 5xx, or it is no valid message, as with a line end in a
                header.
            NotTaken: the server answered 4xx, took nothing from this sender, or hung up before it
                had the mail.
            MaybeSent: it hung up, or fell silent, later than that.
        """
        self.open()
        # Other backends than SMTP do not tell.
        self.handed_over = not isinstance(self._smtp, smtplib.SMTP)
        try:
            message.message()  # Finds out what is invalid before the server hears of it.
            self.backend.send_messages([message])
        except smtplib.SMTPRecipientsRefused as error:
            self._judge(*next(iter(error.recipients.values())), error)
        except smtplib.SMTPSenderRefused as error:  # It means the site, and not this recipient.
            self.close()
            raise NotTaken(f"{error.smtp_code} {text_of(error.smtp_error)}") from error
        except smtplib.SMTPResponseException as error:
            self._judge(error.smtp_code, error.smtp_error, error)
        except smtplib.SMTPNotSupportedError as error:
            self.close()
            raise Refused(f"{type(error).__name__}: {error}") from error
        except OSError as error:
            self.close()
            kind = MaybeSent if self.handed_over else NotTaken
            raise kind(f"{type(error).__name__}: {error}") from error
        except INVALID as error:
            self.close()  # A conversation that stopped in the middle is of no use to the next mail.
            raise Refused(f"{type(error).__name__}: {error}") from error

    def close(self):
        """Hang up. A server that is away already is no error."""
        with contextlib.suppress(OSError):
            self.backend.close()

    def _judge(self, code, reply, error):
        if code == 421:  # «Service not available, closing transmission channel»
            self.close()
        kind = Refused if 500 <= code < 600 else NotTaken
        raise kind(f"{code} {text_of(reply)}") from error

    @property
    def _smtp(self):
        return getattr(self.backend, "connection", None)

    def _watch(self):
        """Note when the server gets the mail itself, after which nobody knows whether it took it.

        smtplib has one method for each command, and `sendmail` calls them: `data` is the last.
        """
        smtp = self._smtp
        if not isinstance(smtp, smtplib.SMTP):
            return
        data = smtp.data

        def watched(message):
            self.handed_over = True
            return data(message)

        smtp.data = watched


def text_of(reply):
    """Return what a mail server said, which smtplib gives as bytes or str."""
    return reply.decode(errors="replace") if isinstance(reply, bytes) else str(reply)
