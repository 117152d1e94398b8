"""Telling the running daemon to read config and watchlist anew."""

from __future__ import annotations

import os
import signal
import socket
import struct
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from pricecheck.errors import NotRunningError, StoreError

if TYPE_CHECKING:
    from pricecheck.snapshot import Snapshot

_WITHIN_S: Final = 10.0
_POLL_S: Final = 0.05
_BY_HAND: Final = "`systemctl reload pricecheck` does, as root"


def reload_daemon(directory: Path) -> str:
    """Send SIGHUP to the daemon of a state directory; return what came of it, as a sentence.

    Waits for the daemon to have read the files, 10 seconds at most.
    """
    from pricecheck.status import ask

    try:
        before = ask(directory)
    except NotRunningError:
        return "The daemon does not run; it reads the watchlist when it starts."
    except StoreError as error:
        return f"The daemon was not told: {error.message}; {_BY_HAND}."
    pid = before.pid
    try:
        if not _hang_up(directory, pid):
            return (
                f"The daemon was not told: it runs in a container, as pid {pid}; reload it there."
            )
        return _outcome(directory, before)
    except PermissionError:
        return f"The daemon was not told: pid {pid} is another user's; {_BY_HAND}."
    except (OSError, NotRunningError):
        return "The daemon has just ended; it reads the watchlist when it starts."


def _hang_up(directory: Path, pid: int) -> bool:
    """Signal the process of that pid, if it is the one that listens on the status socket."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        # The pid is the daemon's own word. In a container it is a number of the container's, and
        # here another process may have it; the kernel knows who listens. It is asked after
        # pidfd_open, so that `process` can be no later bearer of the number.
        if _listener(directory) != pid:
            return False
        signal.pidfd_send_signal(process, signal.SIGHUP)
    finally:
        os.close(process)
    return True


def _outcome(directory: Path, before: Snapshot) -> str:
    """Wait for the reload, and say whether it held. Raises NotRunningError at the daemon's end."""
    from pricecheck.status import ask

    daemon = f"The running daemon, pid {before.pid},"
    deadline = monotonic() + _WITHIN_S
    while monotonic() < deadline:
        now = ask(directory).reloads
        if now.count == before.reloads.count:
            sleep(_POLL_S)
        elif now.refused is None:
            return f"{daemon} has read the watchlist anew."
        else:
            return f"{daemon} refused to reload, and goes on as before: {now.refused}"
    return f"{daemon} is told to read the watchlist anew; `pricecheck status` says if it can't."


def _listener(directory: Path) -> int:
    """Return the pid, as seen from here, of whoever listens on the status socket."""
    from pricecheck.status import SOCKET_NAME

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(directory / SOCKET_NAME))
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid: int = struct.unpack("3i", credentials)[0]
    return pid
