"""The network of the soak: a wire to Keepa that can be cut, and a service that is told alerts."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import trio

_CHUNK = 65_536


class Wire:
    """Forwards connections from a port that stays to one that may change.

    Cut, it refuses connections and breaks those there are; hung, it takes them and lets nothing
    through, until it flows again.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._open = trio.CancelScope()
        self._flows = trio.Event()
        self._flows.set()
        self.port = 0
        self.target = 0

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
            [listener] = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
            port: int = listener.socket.getsockname()[1]
            task_status.started(port)
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
        self.url = f"json://127.0.0.1:{self._server.server_port}/"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._server.server_close()
