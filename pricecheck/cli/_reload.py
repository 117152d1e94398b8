"""Telling the running daemon to read config and watchlist anew."""

from __future__ import annotations

import os
import signal
import socket
import struct
from pathlib import Path
from typing import Final

from pricecheck.errors import NotRunningError, StoreError

_BY_HAND: Final = "`systemctl reload pricecheck` does, as root"


def reload_daemon(directory: Path) -> str:
    """Send SIGHUP to the daemon of a state directory; return what came of it, as a sentence."""
    from pricecheck.status import ask

    try:
        pid = ask(directory).pid
    except NotRunningError:
        return "The daemon does not run; it reads the watchlist when it starts."
    except StoreError as error:
        return f"The daemon was not told: {error.message}; {_BY_HAND}."
    try:
        return _hang_up(directory, pid)
    except PermissionError:
        return f"The daemon was not told: pid {pid} is another user's; {_BY_HAND}."
    except OSError:
        return "The daemon has just ended; it reads the watchlist when it starts."


def _hang_up(directory: Path, pid: int) -> str:
    """Signal the process of that pid, if it is the one that listens on the status socket."""
    elsewhere = f"The daemon was not told: it runs in a container, as pid {pid}; reload it there."
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return elsewhere
    try:
        # The pid is the daemon's own word. In a container it is a number of the container's, and
        # here another process may have it; the kernel knows who listens. It is asked after
        # pidfd_open, so that `process` can be no later bearer of the number.
        if _listener(directory) != pid:
            return elsewhere
        signal.pidfd_send_signal(process, signal.SIGHUP)
    finally:
        os.close(process)
    return f"The running daemon, pid {pid}, reads the watchlist anew."


def _listener(directory: Path) -> int:
    """Return the pid, as seen from here, of whoever listens on the status socket."""
    from pricecheck.status import SOCKET_NAME

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(directory / SOCKET_NAME))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid: int = struct.unpack("3i", credentials)[0]
    return pid
