"""A real mail server for tests, on a free port. It answers each recipient as it is told."""

import threading
from email import message_from_bytes, policy

from aiosmtpd.controller import Controller

from .services import free_port


class MailServer:
    """Keeps the mails it takes. ``answers`` says what it does otherwise.

    ``server.answers["ada@example.org"] = ["451 later", None]`` refuses the first try and takes the
    second; a str alone stands for each try. «hang up» breaks the connection at the recipient,
    «hang up after» when it has the mail, «hold» waits there until `release()`, and «data 554 …»
    answers the mail itself.
    """

    def __init__(self, port=None):
        self.port = port or free_port()
        self.mails, self.answers, self.connections, self.tries = [], {}, 0, []
        self.sender_answer = None
        self.holding, self._go = threading.Event(), threading.Event()
        self.controller = None

    @property
    def url(self):
        return f"smtp://127.0.0.1:{self.port}"

    @property
    def recipients(self):
        """To whom mails have come, in order."""
        return [mail["To"] for mail in self.mails]

    def start(self):
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()
        return self

    def stop(self):
        self._go.set()
        if self.controller:
            self.controller.stop()
            self.controller = None

    def release(self):
        """Let mails go on that are on «hold»."""
        self._go.set()

    # --- What aiosmtpd calls ----------------------------------------------------------------------

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        if self.sender_answer:
            return self.sender_answer
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        self.tries.append(address)
        answer = self.answers.get(address)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        session.answer = answer or ""
        if session.answer == "hang up":
            server.transport.abort()
        elif session.answer[:1].isdigit():
            return session.answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if session.answer.startswith("data "):
            return session.answer.removeprefix("data ")
        if session.answer == "hold":
            self.holding.set()
            await server.loop.run_in_executor(None, self._go.wait, 60)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        if session.answer == "hang up after":
            server.transport.abort()
        return "250 OK"
