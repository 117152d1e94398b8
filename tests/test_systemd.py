"""The door to systemd, against a real notification socket."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from pricecheck import systemd
from pricecheck.errors import ConfigError


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which systemd would listen."""
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(address)
        yield sock


@pytest.fixture
def forgotten() -> None:
    """No lost notification has been logged yet."""
    systemd._log_once.cache_clear()


def received(receiver: socket.socket) -> list[str]:
    """Return the datagrams that have come in."""
    datagrams = []
    while True:
        try:
            datagrams.append(receiver.recv(4096).decode())
        except BlockingIOError:
            return datagrams


def test_each_notification_is_one_datagram(receiver: socket.socket) -> None:
    """The fields are those of sd_notify(3)."""
    systemd.extend_timeout(1.5)
    systemd.ready("31 products")
    systemd.status("waiting")
    systemd.stopping()

    assert received(receiver) == [
        "EXTEND_TIMEOUT_USEC=1500000",
        "READY=1\nSTATUS=31 products",
        "STATUS=waiting",
        "STOPPING=1",
    ]


def test_a_reload_carries_the_monotonic_time(receiver: socket.socket) -> None:
    """Type=notify-reload needs the moment of the reload in CLOCK_MONOTONIC microseconds."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    systemd.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    (datagram,) = received(receiver)
    reloading, _, stamp = datagram.partition("\nMONOTONIC_USEC=")
    assert reloading == "RELOADING=1"
    assert before <= int(stamp) <= after


def test_a_newline_in_the_status_starts_no_new_field(receiver: socket.socket) -> None:
    """A status text can't stop the service or the like."""
    systemd.status("broken\nSTOPPING=1")

    assert received(receiver) == ["STATUS=broken STOPPING=1"]


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leading @ stands for the zero byte of an abstract address."""
    name = f"pricecheck-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        receiver.bind(f"\0{name}")

        systemd.status("ok")

        assert received(receiver) == ["STATUS=ok"]


def test_without_systemd_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Started by hand, the program has no NOTIFY_SOCKET, and nothing to say about that."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    with caplog.at_level(logging.DEBUG):
        systemd.ready("ok")

    assert caplog.records == []


@pytest.mark.usefixtures("forgotten")
def test_a_lost_notification_is_logged_once_and_never_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket that isn't there costs one DEBUG line."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))

    with caplog.at_level(logging.DEBUG):
        systemd.status("one")
        systemd.status("two")

    assert [record.levelname for record in caplog.records] == ["DEBUG"]


@pytest.mark.usefixtures("forgotten")
def test_a_full_queue_does_not_block(
    receiver: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """When systemd doesn't read, notifications are dropped instead of stopping the program."""
    with caplog.at_level(logging.DEBUG):
        for _ in range(5000):
            systemd.status("again")

    assert len(caplog.records) == 1
    assert 0 < len(received(receiver)) < 5000


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        ("30000000", "", 15.0),
        ("30000000", str(os.getpid()), 15.0),
        ("30000000", "1", None),
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
    ],
    ids=["set", "for us", "for another", "unset", "zero", "no number"],
)
def test_the_watchdog_interval_is_half_of_systemds(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, interval: float | None
) -> None:
    """Only a watchdog that is set, and meant for this process, is pinged."""
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)

    assert systemd.watchdog_interval() == interval


async def test_the_watchdog_is_pinged_only_while_alive(
    receiver: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    """The pings stop while the program is stuck, and go on when it recovers."""
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    alive = True
    nursery.start_soon(systemd.ping_watchdog, lambda: alive)

    await trio.sleep(35)
    while_alive = received(receiver)
    alive = False
    await trio.sleep(100)
    while_stuck = received(receiver)
    alive = True
    await trio.sleep(10)

    assert while_alive == ["WATCHDOG=1"] * 4
    assert while_stuck == []
    assert received(receiver) == ["WATCHDOG=1"]


async def test_without_a_watchdog_pinging_returns_at_once(
    receiver: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to do, and no task is kept for it."""
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)

    await systemd.ping_watchdog(lambda: True)

    assert received(receiver) == []


async def test_on_a_slower_clock_pings_come_in_real_time(
    receiver: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    """A simulation's hour may be a real minute; systemd's limit is always real."""
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    nursery.start_soon(partial(systemd.ping_watchdog, lambda: True, time_factor=60))

    await trio.sleep(35 * 60)

    assert received(receiver) == ["WATCHDOG=1"] * 4


class StackLines(logging.Handler):
    """What was logged of threads and tasks, until what a test waits for is among it."""

    def __init__(self, *awaited: str) -> None:
        super().__init__()
        self.complete = threading.Event()
        self.lines: list[dict[str, str]] = []
        self._awaited = set(awaited)

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "fields", {})
        self.lines.append(fields | {"event": record.getMessage()})
        self._awaited -= {name for name in self._awaited if name in str(fields)}
        if not self._awaited:
            self.complete.set()


@pytest.fixture
def stack_lines() -> Iterator[StackLines]:
    """The lines, complete once they tell of the block and of the sleeper."""
    handler = StackLines("block_the_loop", "sleeper")
    for name in ("pricecheck.systemd", "pricecheck.stacks"):
        logging.getLogger(name).addHandler(handler)
    yield handler
    for name in ("pricecheck.systemd", "pricecheck.stacks"):
        logging.getLogger(name).removeHandler(handler)


async def test_before_systemd_kills_the_stacks_of_threads_and_tasks_are_logged(
    monkeypatch: pytest.MonkeyPatch,
    nursery: trio.Nursery,
    stack_lines: StackLines,
) -> None:
    """With the event loop blocked, a thread tells where it is blocked and what each task awaits."""
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)

    def block_the_loop() -> bool:
        return stack_lines.complete.wait(30)

    nursery.start_soon(trio.sleep_forever, name="sleeper")
    nursery.start_soon(systemd.ping_watchdog, lambda: True)
    await trio.testing.wait_all_tasks_blocked(0.01)
    found = block_the_loop()

    assert found
    threads = [line["stack"] for line in stack_lines.lines if line.get("thread") == "MainThread"]
    assert "block_the_loop" in threads[-1]
    asleep = [line for line in stack_lines.lines if line.get("task") == "sleeper"]
    assert "trio._timeouts.sleep_forever" in asleep[-1]["stack"]
    assert asleep[-1]["parent"]


def test_a_silence_is_told_once_and_the_next_one_again() -> None:
    """What a task is stuck in is told once, not with each look at it."""
    told: queue.Queue[float] = queue.Queue()

    with systemd._silence_watched(0.2, lambda: told.put(0)) as heard:
        told.get(timeout=30)
        with pytest.raises(queue.Empty):
            told.get(timeout=0.5)
        heard()
        told.get(timeout=30)


def test_a_credential_is_read_without_the_space_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newline an editor left behind is no part of the key."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "keepa-key").write_text(" abc \n")
    (tmp_path / "empty").write_text("\n")

    assert systemd.credential("keepa-key") == "abc"
    assert systemd.credential("empty") is None
    assert systemd.credential("missing") is None


def test_without_credentials_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started by hand, the program has no CREDENTIALS_DIRECTORY."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    assert systemd.credential("keepa-key") is None


def test_an_unreadable_credential_is_the_operators_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the credential, shows none of it, and says what to do."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "binary").write_bytes(b"secret\xff")
    (tmp_path / "folder").mkdir()

    with pytest.raises(ConfigError, match="binary can't be read: it is not UTF-8") as binary:
        systemd.credential("binary")
    with pytest.raises(ConfigError, match="folder can't be read: Is a directory"):
        systemd.credential("folder")

    assert "secret" not in str(binary.value)
    assert "LoadCredential=binary" in binary.value.remedy
