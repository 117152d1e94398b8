"""The one door to systemd: notifications, the watchdog and credentials.

Nothing here does anything, or fails, where systemd doesn't run the program. The protocol is one
datagram (sd_notify(3)), so it is written out below: the `sdnotify` package has no types, is no
longer maintained, and blocks when the socket's queue is full.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Final

from pricecheck import stacks
from pricecheck.errors import ConfigError
from pricecheck.logs import kv

log = logging.getLogger(__name__)

_PATIENCE: Final = 0.75
"""The share of the watchdog's time that a silence may last before it is told; pings come at 0.5."""


def notify(**fields: str | int) -> None:
    """Send fields such as READY=1 to systemd; never blocks and never raises for a lost one."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # how an abstract socket is spelt in the environment
        address = "\0" + address[1:]
    # A newline would end the field and begin another.
    lines = (f"{name}={' '.join(str(value).splitlines())}" for name, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(lines).encode(), address)
    except OSError as error:
        _log_once(str(error))


@cache
def _log_once(reason: str) -> None:
    log.debug("systemd not notified", extra=kv(error=reason))


def ready(text: str) -> None:
    """Say that the start, or a reload, is complete; `text` is what systemctl status shows."""
    notify(READY=1, STATUS=text)


def status(text: str) -> None:
    """Set the line that systemctl status shows."""
    notify(STATUS=text)


def reloading() -> None:
    """Say that a reload begins; `ready` ends it."""
    # Units of Type=notify-reload are told to stamp it with CLOCK_MONOTONIC in microseconds.
    notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


def stopping() -> None:
    """Say that the program is shutting down."""
    notify(STOPPING=1)


def extend_timeout(seconds: float) -> None:
    """Ask for that much more time, from now, for the start or stop under way."""
    notify(EXTEND_TIMEOUT_USEC=round(seconds * 1_000_000))


def watchdog_interval() -> float | None:
    """Return how many seconds apart to ping: half the time after which systemd kills us.

    None when no watchdog is set, or it is meant for another process.
    """
    usec = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or pid not in ("", str(os.getpid())):
        return None
    return int(usec) / 1_000_000 / 2


async def ping_watchdog(alive: Callable[[], bool], *, time_factor: float = 1.0) -> None:
    """Ping the watchdog for as long as `alive` says so; return at once where there is none.

    While `alive` denies it no ping is sent, and systemd kills and restarts the program unless
    it recovers in time. Before that, where every thread and task stands is logged. `time_factor`
    is that of the clock; systemd waits in real time.
    """
    import trio  # what reads a config comes here for a credential, and starts quickly

    interval = watchdog_interval()
    if interval is None:
        return
    root = trio.lowlevel.current_root_task()
    with _silence_watched(2 * interval, partial(stacks.log_all, root)) as heard:
        while True:
            if alive():
                notify(WATCHDOG=1)
                heard()
            await trio.sleep(interval * time_factor)


@contextmanager
def _silence_watched(limit_s: float, tell: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Call `tell` when the function yielded isn't called for most of the limit, once a silence.

    A thread does it, for the event loop may be what is blocked. Where even threads can't run,
    because something holds Python's lock, only faulthandler's stacks are left.
    """
    last = time.monotonic()
    done = threading.Event()

    def hear() -> None:
        nonlocal last
        last = time.monotonic()

    def watch() -> None:
        told_of = 0.0
        while not done.wait(limit_s / 50):
            silent_s = time.monotonic() - last
            if silent_s > limit_s * _PATIENCE and told_of != last:
                told_of = last
                log.error("no sign of life", extra=kv(silent_s=round(silent_s, 1), limit_s=limit_s))
                tell()

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    try:
        yield hear
    finally:
        done.set()


def hands_credentials() -> bool:
    """Tell whether systemd runs this program, and hands it credentials."""
    return bool(os.environ.get("CREDENTIALS_DIRECTORY"))


def credential(name: str) -> str | None:
    """Return a credential that the unit passes (LoadCredential=), without the space around it.

    None when systemd passes none of that name, or an empty one. Raises ConfigError when it is
    there but can't be read.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return None
    try:
        return Path(directory, name).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"the credential {name} can't be read: {reason}",
            remedy=f"mend the file that LoadCredential={name} of the unit names",
        ) from None
