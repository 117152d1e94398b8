"""The doors of a running daemon: its status socket and its page's port.

An input is what one client does: a letter for how it behaves, then what it sends. Afterwards the
next client must be answered, and the log must complain of nothing but Keepa, which is not there.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from pricecheck import status
from pricecheck.config.sections import is_loopback
from scripts.fuzzing.search import Target

_AFTER_S: Final = 2.0
_HELD: Final = 20  # clients that neither read nor leave, at any time
_READY_S: Final = 20.0
_GOOD: Final = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
_NO_COMPLAINT: Final = re.compile(rb"\S+ (INFO|WARN +collecting fails) ")
_WORDS: Final = tuple(
    b"GET|HEAD|POST| / |HTTP/1.1|HTTP/1.0|\r\n|Host: localhost|Host: [::1]|Host: evil.example|:|?"
    b"|Transfer-Encoding: chunked|Content-Length: 5|Expect: 100-continue|Upgrade: h2c".split(b"|")
)


class Daemon:
    """A daemon in a folder, which watches nothing; it starts when the first client comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log"
        self._read = 0
        self._held: deque[socket.socket] = deque()
        self._process: subprocess.Popen[bytes] | None = None

    @cached_property
    def port(self) -> int:
        """The port of its page. The daemon is started for it."""
        self._folder.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port: int = taken.getsockname()[1]
        config = self._folder / "pricecheck.toml"
        config.write_text(
            'state_directory = "."\n[keepa]\nurl = "http://127.0.0.1:9"\n'
            f'[web]\nlisten = "127.0.0.1:{port}"\n'
        )
        (self._folder / "watchlist.csv").write_text("asin\n")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # our own program
                [sys.executable, "-m", "pricecheck", "run", "--config", config],
                stdout=log,
                stderr=log,
            )
        ready_by = time.monotonic() + _READY_S
        while (
            b" page served" not in self._log.read_bytes() or b" ready" not in self._log.read_bytes()
        ):
            assert time.monotonic() < ready_by, self._log.read_text()
            time.sleep(0.05)
        self._read = self._log.stat().st_size
        return port

    @property
    def status_socket(self) -> Path:
        """Where its status socket is."""
        assert self.port
        return self._folder / status.SOCKET_NAME

    def judge(self, door: socket.socket, script: bytes) -> bytes:
        """Let a client do what the script says; return what it was answered."""
        how, data = script[:1] or b"r", script[1:]
        answer = b""
        with suppress(OSError):
            door.settimeout(_AFTER_S)
            for part in (
                (data[: len(data) // 2], data[len(data) // 2 :]) if how == b"p" else (data,)
            ):
                door.sendall(part)
            if how == b"s":  # silent: it neither reads nor leaves
                self._held.append(door)
                if len(self._held) > _HELD:
                    self._held.popleft().close()
                return answer
            if how != b"g":  # gone at once
                door.shutdown(socket.SHUT_WR)
                while chunk := door.recv(65_536):
                    answer += chunk
        door.close()
        return answer

    def well(self) -> None:
        """Raise unless the daemon answers at its socket and has complained of nothing."""
        assert status.ask(self._folder).health in ("ok", "degraded")
        with self._log.open("rb") as log:
            log.seek(self._read)
            said = log.read()
        self._read += len(said)
        assert all(_NO_COMPLAINT.match(line) for line in said.splitlines()), said.decode()

    def end(self) -> None:
        """End it, and every client."""
        for one in self._held:
            one.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)


@contextmanager
def door_targets(folder: Path) -> Iterator[list[Target]]:
    """Yield the targets that are doors of one daemon, which ends with the block."""
    daemon = Daemon(folder)

    def judge_socket(script: bytes) -> None:
        door = socket.socket(socket.AF_UNIX)
        door.connect(str(daemon.status_socket))
        answer = daemon.judge(door, script)
        assert not answer or answer.count(b"\n") == 1, answer[:200]
        daemon.well()

    def judge_page(script: bytes) -> None:
        answer = daemon.judge(socket.create_connection(("127.0.0.1", daemon.port)), script)
        assert not answer or re.match(rb"HTTP/1\.1 [245]\d\d ", answer), answer[:200]
        if answer.startswith(b"HTTP/1.1 200 "):
            hosts = re.findall(rb"(?im)^host:\s*(.*?)\s*$", script)
            assert any(is_loopback("//" + host.decode("latin-1")) for host in hosts), script
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=_AFTER_S) as other:
            other.sendall(_GOOD)
            assert other.recv(100).startswith(b"HTTP/1.1 404 ")
        daemon.well()

    try:
        yield [
            Target("status", judge_socket, words=_WORDS),
            Target("page", judge_page, words=_WORDS),
        ]
    finally:
        daemon.end()
