"""The status socket: whoever connects is told the daemon's state as one JSON line.

The server side runs in the daemon; `ask` is the client, plain and quick, for the CLI.
"""

from __future__ import annotations

import grp
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from pricecheck.errors import ConfigError, NotRunningError, StoreError
from pricecheck.snapshot import SHAPE_VERSION, Snapshot

if TYPE_CHECKING:  # trio costs the quick commands a tenth of a second
    import trio

log = logging.getLogger(__name__)

SOCKET_NAME: Final = "status.sock"
_ANSWER_WITHIN_S: Final = 5.0
_BACKLOG: Final = 128
_AT_ONCE: Final = 16
_LONGEST_PATH: Final = 107  # sun_path of unix(7), without its final NUL


def socket_path(directory: Path) -> Path:
    """Return where the socket of a state directory is.

    Raises ConfigError when that path is too long for a socket.
    """
    path = directory / SOCKET_NAME
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"{path}: too long a path for a socket", remedy="choose a shorter state_directory"
        )
    return path


def bind(directory: Path) -> trio.SocketListener:
    """Open the socket in the state directory, in place of one that a killed daemon left.

    Owner and group may connect. Raises ConfigError when the path is too long for a socket,
    StoreError when none can be made there.
    """
    import trio

    path = socket_path(directory)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        path.chmod(0o660)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise StoreError(
            f"{path}: the status socket can't be made: {error.strerror}",
            remedy="check what is there, and owner and mode of the state directory",
        ) from None
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


async def serve(
    listener: trio.SocketListener,
    take: Callable[[], Awaitable[Snapshot]],
    *,
    time_factor: float = 1.0,
) -> None:
    """Answer each connection with a fresh snapshot, for ever."""
    import trio

    from pricecheck.serving import serve_few

    async def answer(stream: trio.SocketStream) -> None:
        # The asker waits in real time.
        with trio.move_on_after(_ANSWER_WITHIN_S * time_factor), suppress(trio.BrokenResourceError):
            try:
                snapshot = await take()
            except Exception:
                # Nobody could be answered again if this ended the listening.
                log.exception("no status")
            else:
                await stream.send_all(msgspec.json.encode(snapshot) + b"\n")
        await trio.aclose_forcefully(stream)

    await serve_few(answer, [listener], _AT_ONCE)


def ask(directory: Path) -> Snapshot:
    """Ask the daemon of a state directory for its state.

    Raises NotRunningError when none answers there, StoreError when it may not be asked.
    """
    path = directory / SOCKET_NAME
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_WITHIN_S)
            connection.connect(str(path))
            with connection.makefile("rb") as answer:
                line = answer.readline()
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunningError(
            f"pricecheck is not running with its state in {directory}",
            remedy="start it with `systemctl start pricecheck` or `pricecheck run`",
        ) from None
    except PermissionError:
        remedy = _who_may_ask(directory)
        raise StoreError(f"{path}: no permission to ask", remedy=remedy) from None
    except OSError as error:
        raise NotRunningError(
            f"{path}: no answer: {error}", remedy="see `journalctl -u pricecheck`"
        ) from None
    if not line:
        raise NotRunningError(
            f"{path}: the daemon did not answer",
            remedy="it may just be ending: ask again, or see `journalctl -u pricecheck`",
        )
    try:
        snapshot = msgspec.json.decode(line, type=Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotRunningError(
            f"{path}: the daemon's answer can't be read: {error}",
            remedy="daemon and command are of different versions: restart the daemon",
        ) from None
    if snapshot.shape != SHAPE_VERSION:
        raise NotRunningError("the daemon is of another version", remedy="restart the daemon")
    return snapshot


def _who_may_ask(directory: Path) -> str:
    try:
        group = grp.getgrgid(directory.stat().st_gid).gr_name
    except PermissionError:  # where only a service without a place in /run has it
        return "`systemctl status pricecheck` tells whether it runs; otherwise ask as root"
    except (OSError, KeyError):
        return "ask as root"
    if group == "root":  # whoever joins that group may do far more than ask
        return "ask as root, or as the user that the daemon runs as"
    return (
        f"ask as root, or as a member of the group {group}: "
        f"`sudo usermod -aG {group} $USER`, then log in anew"
    )
