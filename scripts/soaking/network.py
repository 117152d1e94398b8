"""The network of the soak: the daemon's own, the wires out of it, a service that is told alerts."""

from __future__ import annotations

import ctypes
import json
import socket
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import trio

_CHUNK = 65_536
_CLONE_NEWNET = 0x40000000


class Namespace:
    """A network namespace that has nothing but its own loopback. Raises OSError without root.

    Whoever is in it reaches a wire that listens there, and through it one peer outside. Cut, no
    packet gets anywhere and no connection breaks, as when a cable is pulled.
    """

    def __init__(self) -> None:
        command = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo && exec sleep 1d"]
        self._holder = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self._path = f"/proc/{self._holder.pid}/ns/net"
        self.enter = ("nsenter", f"--net={self._path}")
        assert self._holder.stdout is not None  # it is a pipe
        with self._holder.stdout as said:
            stands = said.readline()
        if not stands:
            self.close()
            raise PermissionError("no network namespace can be made here")

    def listen(self, port: int) -> socket.socket:
        """Return a socket that listens in here; made by a thread that is in here, too."""
        made: list[socket.socket] = []

        def make() -> None:
            with open(self._path) as namespace:  # noqa: PTH123  # as short as its life
                ctypes.CDLL(None).setns(namespace.fileno(), _CLONE_NEWNET)
            made.append(socket.create_server(("127.0.0.1", port)))

        thread = Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def cut(self) -> None:
        """Let no packet through."""
        self._set("down")

    def heal(self) -> None:
        """Let them through again."""
        self._set("up")

    def _set(self, state: str) -> None:
        subprocess.run([*self.enter, "ip", "link", "set", "lo", state], check=True)

    def close(self) -> None:
        """Give it up; it ends with the last process in it."""
        self._holder.kill()
        self._holder.wait()


class Wire:
    """Forwards connections from a port that stays, perhaps in a namespace, to one that may change.

    Cut, it refuses connections and breaks those there are; hung, it takes them and lets nothing
    through, until it flows again.
    """

    def __init__(
        self, nursery: trio.Nursery, namespace: Namespace | None, port: int = 0, target: int = 0
    ) -> None:
        self._nursery = nursery
        self._namespace = namespace
        self._open = trio.CancelScope()
        self._flows = trio.Event()
        self._flows.set()
        self.port = port
        self.target = target

    async def join(self) -> None:
        """Take connections, at the same port as ever."""
        self._open = trio.CancelScope()
        self.port = await self._nursery.start(self._serve, self._open)

    def cut(self) -> None:
        """Break every connection, and take no more."""
        self._open.cancel()

    def hang(self) -> None:
        """Let nothing through."""
        self._flows = trio.Event()

    def flow(self) -> None:
        """Let through what waits, and all that comes."""
        self._flows.set()

    async def _serve(self, scope: trio.CancelScope, task_status: trio.TaskStatus[int]) -> None:
        with scope:
            if self._namespace is not None:
                plain = self._namespace.listen(self.port)
            else:
                plain = socket.create_server(("127.0.0.1", self.port))
            plain.setblocking(False)
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(plain))
            task_status.started(plain.getsockname()[1])
            await trio.serve_listeners(self._forward, [listener])

    async def _forward(self, client: trio.SocketStream) -> None:
        try:
            await self._flows.wait()
            keepa = await trio.open_tcp_stream("127.0.0.1", self.target)
            async with keepa, trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, client, keepa, nursery.cancel_scope)
                nursery.start_soon(self._pump, keepa, client, nursery.cancel_scope)
        except OSError:  # nobody is there; the client is told by the end of its connection
            return

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream, both: trio.CancelScope
    ) -> None:
        """Carry one direction; its end is that of the other, for HTTP has no half-open ones."""
        try:
            while data := await source.receive_some(_CHUNK):
                await self._flows.wait()
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        both.cancel()


class Bell:
    """A notify service of Apprise's json:// kind, that writes down what it is told, and when."""

    def __init__(self, book: Path) -> None:
        self.refusing = False
        bell = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not bell.refusing:
                    line = {"at_s": time.time(), "message": told["message"]}
                    with book.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                self.send_response(503 if bell.refusing else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()
