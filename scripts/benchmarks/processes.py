"""Simulator and daemon as the processes that they are, and what the kernel says of them."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

OUTBOX = "state/outbox.sqlite"
_WITHIN_S = 600
_OF_A_PROCESS = 2  # how clock_getcpuclockid(3) makes a clock of a pid, counting nanoseconds


class Daemon(NamedTuple):
    """A running daemon."""

    home: Path  # holds pricecheck.toml, watchlist.csv and state/
    pid: int
    ready_s: float  # from its start until it said READY

    def cpu_s(self) -> float:
        """Return the processor time it has used so far, threads that have ended included."""
        return time.clock_gettime(~self.pid << 3 | _OF_A_PROCESS)

    def memory_mb(self, field: str) -> float:
        """Return a memory figure of it, as `memory_mb` does."""
        return memory_mb(self.pid, field)

    def wait_checked(self, products: int) -> None:
        """Wait until that many products have been checked and committed."""
        deadline = time.monotonic() + _WITHIN_S
        uri = f"{(self.home / OUTBOX).as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as db:
            while (db.execute("SELECT max(number) FROM states").fetchone()[0] or 0) < products:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not {products:,} products checked in {_WITHIN_S} s")
                time.sleep(0.05)


def memory_mb(pid: int, field: str) -> float:
    """Return a memory figure of proc(5): VmRSS is what a process holds, VmHWM the most it held."""
    status = Path(f"/proc/{pid}/status").read_text()
    (kilobytes,) = re.findall(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kilobytes) / 1000


def write_home(home: Path, *, url: str, watched: Iterable[tuple[str, str]], more: str = "") -> None:
    """Fill a daemon's directory; `watched` are marketplace and ASIN of each product.

    `more` are further lines of the config, of which the first belong to its section prices.
    """
    lines = ["asin,domain", *(f"{asin},{domain}" for domain, asin in watched)]
    (home / "watchlist.csv").write_text("\n".join(lines) + "\n")
    (home / "pricecheck.toml").write_text(
        f'state_directory = "state"\n[keepa]\nurl = "{url}"\n'
        f'[prices]\nwatchlist = "watchlist.csv"\n{more}\n'
    )


def some_products(count: int) -> list[tuple[str, str]]:
    """Return so many products that a simulator knows."""
    return [("DE", f"B0{number:08d}") for number in range(count)]


@contextmanager
def simulator(*options: str) -> Iterator[str]:
    """Run a simulator, and yield its address."""
    command = [sys.executable, "-m", "pricecheck.simulator", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # it is a pipe
            said = process.stdout.readline()
            address = re.search(r"http://[\d.:]+", said)
            if address is None:
                raise RuntimeError(f"the simulator did not start: {said!r}")
            yield address[0]
        finally:
            process.terminate()


@contextmanager
def daemon(home: Path) -> Iterator[Daemon]:
    """Run a daemon until it is ready, and to its end; its log goes to a file beside its state."""
    address = home / "notify"
    address.unlink(missing_ok=True)
    env = os.environ | {"NOTIFY_SOCKET": str(address)}
    config = str(home / "pricecheck.toml")
    command = [sys.executable, "-m", "pricecheck", "run", "--config", config]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        (home / "log").open("w") as log,
    ):
        notified.bind(str(address))
        began = time.perf_counter()
        with subprocess.Popen(command, env=env, stdout=log, stderr=log) as process:
            try:
                _wait_ready(notified, process, home)
                yield Daemon(home, process.pid, time.perf_counter() - began)
            finally:
                process.send_signal(signal.SIGTERM)


def _wait_ready(notified: socket.socket, process: subprocess.Popen[bytes], home: Path) -> None:
    deadline = time.monotonic() + _WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([notified], [], [], 0.5)[0] and b"READY=1" in notified.recv(4096):
            return
    raise RuntimeError(f"the daemon did not start: {(home / 'log').read_text()[-500:]}")
