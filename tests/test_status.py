"""The status socket: who may ask, and what happens when either side is odd."""

from __future__ import annotations

import os
import select
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from pricecheck import status
from pricecheck.clock import ScaledClock
from pricecheck.errors import ConfigError, NotRunningError, PricecheckError, StoreError
from pricecheck.snapshot import (
    SHAPE_VERSION,
    Snapshot,
    StoreState,
    TokenState,
    Totals,
    WatchlistState,
)

SNAPSHOT = Snapshot(
    shape=SHAPE_VERSION,
    version="1.2.3",
    pid=4711,
    health="ok",
    reasons=[],
    simulated=False,
    now="2026-11-24T14:00:00Z",
    uptime_s=3_700.0,
    config=None,
    notes=[],
    tokens=TokenState(None, None, None, None, 0, 0, 0, {}),
    watchlist=WatchlistState(0, 0, 0, None, 0.0, 0, 0, 0),
    tasks=[],
    relays=[],
    totals=Totals(),
    store=StoreState("outbox.sqlite", 0, {}, {}, None, None),
)
SOCKET = status.SOCKET_NAME

# Perl, for this Python may lie where nobody else may read.
ATTEMPT = (
    "perl",
    "-MSocket",
    "-e",
    "socket(S, AF_UNIX, SOCK_STREAM, 0) or die; "
    'print connect(S, sockaddr_un($ARGV[0])) ? "connected" : $!{EACCES} ? "refused" : "$!"',
)

Take = Callable[[], Any]


async def take() -> Snapshot:
    await trio.lowlevel.checkpoint()
    return SNAPSHOT


@pytest.fixture
def serve(nursery: trio.Nursery, tmp_path: Path) -> Callable[..., Path]:
    """Answer at a socket with snapshots taken so; return its path."""

    def begin(how: Take = take) -> Path:
        nursery.start_soon(status.serve, status.bind(tmp_path), how)
        return tmp_path / SOCKET

    return begin


async def ask(directory: Path) -> Snapshot:
    return await trio.to_thread.run_sync(status.ask, directory)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may look into; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


class TestBind:
    async def test_owner_and_group_may_ask_and_no_one_else(self, tmp_path: Path) -> None:
        """The state says which products are watched, and how."""
        async with status.bind(tmp_path):
            mode = (tmp_path / SOCKET).stat().st_mode

        assert stat.S_IMODE(mode) == 0o660

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as somebody else")
    @pytest.mark.parametrize(("group", "answer"), [(4711, "refused"), (4712, "connected")])
    async def test_another_user_is_refused_but_for_those_of_the_group(
        self, open_directory: Path, group: int, answer: str
    ) -> None:
        """By the system, at the socket itself: everybody may look into this directory."""
        async with status.bind(open_directory):
            os.chown(open_directory / SOCKET, 0, 4712)
            attempt = await trio.run_process(
                [*ATTEMPT, open_directory / SOCKET],
                user="nobody",
                group=group,
                extra_groups=[],
                capture_stdout=True,
            )

        assert attempt.stdout.decode() == answer

    async def test_a_link_in_its_place_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        """What it leads to stays as it is."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_text("of somebody")
        elsewhere.chmod(0o604)
        (tmp_path / SOCKET).symlink_to(elsewhere)

        async with status.bind(tmp_path):
            assert (tmp_path / SOCKET).is_socket()
            assert not (tmp_path / SOCKET).is_symlink()

        assert elsewhere.read_text() == "of somebody"
        assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o604

    async def test_the_socket_of_a_killed_daemon_is_replaced(
        self, serve: Callable[..., Path], tmp_path: Path
    ) -> None:
        """The lock says that nobody listens there."""
        with socket.socket(socket.AF_UNIX) as left_over:
            left_over.bind(str(tmp_path / SOCKET))

        serve()

        assert (await ask(tmp_path)).pid == 4711

    async def test_a_path_too_long_is_the_configs_fault(self, tmp_path: Path) -> None:
        """An operator reads what to do; the limit is unix(7)'s, in bytes."""
        room = 107 - len(str(tmp_path / SOCKET)) - 1
        fits, too_long = tmp_path / ("x" * room), tmp_path / ("ü" * ((room + 2) // 2))
        fits.mkdir()

        async with status.bind(fits):
            assert (fits / SOCKET).is_socket()

        with pytest.raises(ConfigError, match="too long a path") as caught:
            status.bind(too_long)
        assert "shorter" in caught.value.remedy

    @pytest.mark.parametrize("obstacle", ["no directory", "a directory in its place"])
    async def test_where_none_can_be_made_it_says_so(self, tmp_path: Path, obstacle: str) -> None:
        """The state directory's fault, not a bug of ours."""
        if obstacle == "no directory":
            directory = tmp_path / "gone"
        else:
            directory = tmp_path
            (directory / SOCKET).mkdir()

        with pytest.raises(StoreError, match="can't be made") as caught:
            status.bind(directory)
        assert "state directory" in caught.value.remedy


def _hung_up(number: int) -> None:
    """Wait, without reading, until the other side has closed a connection."""
    waiting = select.poll()
    waiting.register(number, 0)
    assert waiting.poll(10_000)


class TestServe:
    async def test_each_connection_gets_one_line(self, serve: Callable[..., Path]) -> None:
        """One snapshot as JSON, then the end."""
        path = serve()

        async with await trio.open_unix_socket(path) as stream:
            received = b"".join([chunk async for chunk in stream])

        assert received.count(b"\n") == 1
        assert msgspec.json.decode(received, type=Snapshot) == SNAPSHOT

    async def test_fifty_at_once_are_all_answered(
        self, serve: Callable[..., Path], tmp_path: Path
    ) -> None:
        """Even when nobody has been accepted yet: the backlog takes them."""
        answers = []

        async def one() -> None:
            answers.append(await ask(tmp_path))

        listener = status.bind(tmp_path)
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(one)
            await trio.to_thread.run_sync(lambda: None)
            nursery.start_soon(status.serve, listener, take)
            while len(answers) < 50:
                await trio.to_thread.run_sync(lambda: None)
            nursery.cancel_scope.cancel()

        assert answers == [SNAPSHOT] * 50

    @pytest.mark.parametrize("behaviour", ["silent", "gone at once", "talkative"])
    async def test_an_odd_client_disturbs_nobody(
        self, serve: Callable[..., Path], tmp_path: Path, behaviour: str
    ) -> None:
        """Nothing is read from it, and nobody waits for it."""
        path = serve()
        odd = await trio.open_unix_socket(path)
        if behaviour == "talkative":
            await odd.send_all(b"GET / HTTP/1.1\r\n\r\n" * 100)
        if behaviour == "gone at once":
            await odd.aclose()

        assert await ask(tmp_path) == SNAPSHOT
        await odd.aclose()

    async def test_a_client_that_does_not_read_is_dropped(
        self,
        serve: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """An answer larger than the socket's buffer waits for it no longer than allowed."""
        monkeypatch.setattr(status, "_ANSWER_WITHIN_S", 0.05)
        large = msgspec.structs.replace(SNAPSHOT, notes=["x" * 5_000_000])

        async def take_large() -> Snapshot:
            await trio.lowlevel.checkpoint()
            return large

        path = serve(take_large)
        async with await trio.open_unix_socket(path) as stream:
            await trio.to_thread.run_sync(_hung_up, stream.socket.fileno())
            received = b"".join([chunk async for chunk in stream])

        assert 0 < len(received) < 5_000_000

    async def test_a_snapshot_that_fails_costs_one_answer(
        self, serve: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It is told with its traceback, and the next who asks is answered."""
        failures = [ZeroDivisionError("no luck")]

        async def take_badly() -> Snapshot:
            await trio.lowlevel.checkpoint()
            if failures:
                raise failures.pop()
            return SNAPSHOT

        serve(take_badly)

        with pytest.raises(NotRunningError, match="did not answer"):
            await ask(tmp_path)
        assert await ask(tmp_path) == SNAPSHOT
        assert "ZeroDivisionError: no luck" in caplog.text

    async def test_in_fast_time_it_answers_in_real_time(
        self, tmp_path: Path, nursery: trio.Nursery, fast_clock: ScaledClock
    ) -> None:
        """Whoever asks waits real seconds, however fast the prices move."""

        async def take_slowly() -> Snapshot:
            await trio.sleep(10_000 * 0.1)
            return SNAPSHOT

        listener = status.bind(tmp_path)
        nursery.start_soon(lambda: status.serve(listener, take_slowly, time_factor=10_000.0))

        assert await ask(tmp_path) == SNAPSHOT

    @pytest.fixture
    def fast_clock(self) -> ScaledClock:
        return ScaledClock(10_000.0)


class TestAsk:
    @pytest.mark.parametrize("left", ["nothing", "the socket of a killed daemon"])
    def test_where_none_runs_it_says_so(self, tmp_path: Path, left: str) -> None:
        """With the way to start one, and the exit code of 'not running'."""
        if left != "nothing":
            with socket.socket(socket.AF_UNIX) as left_over:
                left_over.bind(str(tmp_path / SOCKET))

        with pytest.raises(NotRunningError, match="is not running") as caught:
            status.ask(tmp_path)
        assert "systemctl start" in caught.value.remedy
        assert caught.value.exit_code == 3

    def test_a_daemon_that_hangs_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped, or its event loop blocked: it takes the connection and never answers."""
        monkeypatch.setattr(status, "_ANSWER_WITHIN_S", 0.05)
        with socket.socket(socket.AF_UNIX) as hanging:
            hanging.bind(str(tmp_path / SOCKET))
            hanging.listen()

            with pytest.raises(NotRunningError, match="no answer: timed out"):
                status.ask(tmp_path)

    @pytest.mark.parametrize(
        ("answer", "complaint", "remedy"),
        [
            (b"", "did not answer", "ask again"),
            (b"\xff\n", "can't be read", "restart the daemon"),
            (b'{"shape": 1}\n', "can't be read", "restart the daemon"),
            (b'{"sha', "can't be read", "restart the daemon"),
            (
                msgspec.json.encode(msgspec.structs.replace(SNAPSHOT, shape=SHAPE_VERSION + 1)),
                "of another version",
                "restart the daemon",
            ),
        ],
        ids=["none", "garbage", "too little", "cut", "newer"],
    )
    async def test_an_answer_that_can_not_be_understood_is_told(
        self, nursery: trio.Nursery, tmp_path: Path, answer: bytes, complaint: str, remedy: str
    ) -> None:
        """As what it probably is: an end under way, or another version."""

        async def speak(stream: trio.SocketStream) -> None:
            await stream.send_all(answer)
            await stream.aclose()

        listener = status.bind(tmp_path)
        nursery.start_soon(trio.serve_listeners, speak, [listener])

        with pytest.raises(PricecheckError, match=complaint) as caught:
            await ask(tmp_path)
        assert remedy in caught.value.remedy

    async def test_fields_of_a_later_version_are_ignored(
        self, nursery: trio.Nursery, tmp_path: Path
    ) -> None:
        """New ones may come at any time without a new shape."""
        later = msgspec.to_builtins(SNAPSHOT) | {"mood": "sunny"}

        async def speak(stream: trio.SocketStream) -> None:
            await stream.send_all(msgspec.json.encode(later) + b"\n")
            await stream.aclose()

        nursery.start_soon(trio.serve_listeners, speak, [status.bind(tmp_path)])

        assert await ask(tmp_path) == SNAPSHOT
