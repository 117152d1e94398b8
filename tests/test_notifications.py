"""What the daemon tells systemd in the course of a life, as the real process tells it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .daemons import House, fast_time
from .daemons import Service as Keepa


class Told:
    """The datagrams of one daemon, in the order in which they came."""

    def __init__(self, receiver: socket.socket) -> None:
        self._receiver = receiver
        self.all: list[str] = []

    def wait_for(self, field: str) -> dict[str, str]:
        """Read on until a datagram holds the field; return that one's fields."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            datagram = self._receiver.recv(4096).decode()
            self.all.append(datagram)
            fields = dict(line.split("=", 1) for line in datagram.splitlines())
            if field in fields:
                return fields
        pytest.fail(f"never told: {field}; only {self.all}")


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    """A socket in systemd's place."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(30)
        yield Told(receiver)


@pytest.fixture
def daemon(told: Told, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A daemon that believes systemd started it, with a watchdog of two seconds."""
    (tmp_path / "pricecheck.toml").write_text('[keepa]\nurl = "http://127.0.0.1:9"\n')
    (tmp_path / "watchlist.csv").write_text("asin\nB0D8W1YVBX\n")
    (tmp_path / "run").mkdir()
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "2000000",
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "RUNTIME_DIRECTORY": str(tmp_path / "run"),
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-m", "pricecheck", "run", "--config"]
    command += [str(tmp_path / "pricecheck.toml")]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


def test_a_life_as_systemd_hears_of_it(
    told: Told, daemon: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Ready, alive, reloading, ready again, stopping, and time asked for while it writes."""
    opening = told.wait_for("EXTEND_TIMEOUT_USEC")
    ready = told.wait_for("READY")
    told.wait_for("WATCHDOG")
    socket_is_there = (tmp_path / "run/status.sock").is_socket()
    daemon.send_signal(signal.SIGHUP)
    reloading = told.wait_for("RELOADING")
    again = told.wait_for("READY")
    daemon.send_signal(signal.SIGTERM)
    told.wait_for("STOPPING")
    extended = told.wait_for("EXTEND_TIMEOUT_USEC")
    code = daemon.wait(30)

    assert int(opening["EXTEND_TIMEOUT_USEC"]) == 3_600_000_000
    assert "1 products" in ready["STATUS"]
    assert "1 products" in again["STATUS"]
    assert socket_is_there
    assert int(reloading["MONOTONIC_USEC"]) > 0
    assert int(extended["EXTEND_TIMEOUT_USEC"]) == 60_000_000
    assert code == 0


def test_a_refused_reload_ends_as_a_reload_ends(
    told: Told, daemon: subprocess.Popen[str], tmp_path: Path
) -> None:
    """systemd would wait for READY=1 for ever; the reason is in the log."""
    told.wait_for("READY")
    (tmp_path / "pricecheck.toml").write_text("[keepa]\nspeed = 11\n")
    daemon.send_signal(signal.SIGHUP)
    told.wait_for("RELOADING")
    told.wait_for("READY")
    daemon.terminate()

    assert daemon.stderr
    assert "reload refused" in daemon.stderr.read()


@pytest.mark.long
async def test_a_normal_day_is_a_line_an_hour_and_little_else(house: House, service: Keepa) -> None:
    """Hundreds of calls, none with a line of its own; an hour's line comes with each real hour."""
    service.runs_in(fast_time(3600.0))
    await service.serve()
    house.configure(
        keepa='connect_timeout = "1h"\nread_timeout = "1h"\ncall_timeout = "2h"',
        prices='every = "1h"',
        rest='[[deals]]\ndomain = "DE"\n[[bestsellers]]\ndomain = "DE"\ncategory = 340843031\n',
    )
    house.watch(f"B{number:09d}" for number in range(20))

    with house.start() as daemon:
        day = await house.status_that(lambda now: now.uptime_s > 86_400)
        lines = daemon.log.splitlines()

    assert day.totals.calls > 40
    assert len(lines) + 24 < 36, lines
    assert not [line for line in lines if " INFO " not in line]
