"""A RabbitMQ of a test's own."""

import signal
from pathlib import Path

from kombu import Connection

from tests.services import Process, find_program, free_port


class RabbitMQ:
    """A RabbitMQ server on free ports, with its data in a folder. guest:guest may do everything.

    Args:
        folder (Path): for its data and logs.

    Raises:
        LookupError: it is not installed.
    """

    def __init__(self, folder):
        # Not the one on PATH: Debian's runs as another user, to whom the folder is closed.
        places = ["/usr/lib/rabbitmq/bin"]
        self.program = find_program("rabbitmq-server", "apt-get install rabbitmq-server", places)
        self.folder, self.port = Path(folder), free_port()
        self.folder.mkdir()
        self.env = {
            "HOME": str(folder),  # the cookie
            "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        }

    @property
    def url(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self):
        # Erlang's name server. RabbitMQ would start one as a daemon, which outlives it.
        epmd = find_program("epmd", "apt-get install rabbitmq-server")
        self.names = Process([epmd], self.folder / "epmd.log", self.env, cwd="/")
        self.process = Process([self.program], self.folder / "output.log", self.env, cwd="/")
        self.process.wait_for_output("completed with", 60)
        return self

    def ctl(self, *command):
        """Run rabbitmqctl, and wait for it."""
        program = Path(self.program).with_name("rabbitmqctl")
        ctl = Process([program, *command], self.folder / "ctl.log", self.env, cwd="/")
        assert ctl.wait(60) == 0, ctl.output

    def empty(self):
        """Delete the site's queues."""
        with Connection(self.url) as connection:
            for name in ("celery", "slow"):
                connection.default_channel.queue_delete(name)

    def stop(self):
        self.process.stop(signal.SIGKILL)
        self.names.stop()
