"""Supervisor's event listener: ends supervisord when a program of it has failed for good.

http://supervisord.org/events.html
"""

import os
import signal
import sys

from supervisor.childutils import get_headers, listener


def main():
    while True:
        _, payload = listener.wait()
        event = get_headers(payload)
        print(f"{event['groupname']}:{event['processname']} does not start", file=sys.stderr)
        os.kill(os.getppid(), signal.SIGTERM)
        listener.ok()


if __name__ == "__main__":
    main()
