"""Keeps a server alive exactly as long as whoever started this: run as a script, `keeper.py LOG WORD...`.

The script leaves its parent's process tree at once and prints its new process id. When its standard input ends, because
whoever holds the other side closed it or died, however it died, the server and all that it started get SIGTERM and, ten
seconds later, SIGKILL. When the server ends by itself the script ends too.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

GRACE = 10.0


def keep(log: str, words: list[str]) -> None:
    """Run a server with its output in `log` until standard input ends or the server does."""
    with open(log, "ab") as output:
        # A session of its own: its process group is all that it ever starts.
        server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)
    print(server.pid, flush=True)
    os.close(1)
    try:
        while server.poll() is None:
            if select.select([0], [], [], 0.5)[0] and not os.read(0, 1):
                break
    finally:
        end(server)


def end(server: subprocess.Popen[bytes]) -> None:
    """End a server and all that is in its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(server.pid, number)
        until = time.monotonic() + GRACE
        while server.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)


def main() -> None:
    """Detach, then keep."""
    if os.fork():
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    keep(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    main()
