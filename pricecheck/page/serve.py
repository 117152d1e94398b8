"""The page, served to browsers on this machine: read-only, and never older than its request.

A server of few words, one request a connection. Whoever asks by a name that is not this machine's
is refused, or any website could have a visitor's browser read the page for it (DNS rebinding).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import h11
import trio

from pricecheck.config.sections import is_loopback
from pricecheck.errors import ConfigError, StoreError
from pricecheck.logs import kv
from pricecheck.serving import serve_few
from pricecheck.supervisor import Heartbeat

log = logging.getLogger(__name__)

_WITHIN_S: Final = 60.0
_ASKED_WITHIN_S: Final = 5.0  # browsers connect before they ask, and some never do
_AT_ONCE: Final = 32
_CHUNK: Final = 16_384
_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Connection", "close"),
)


async def serve(
    place: tuple[str, int],
    make: Callable[[], Awaitable[str]],
    heartbeat: Heartbeat,
    *,
    time_factor: float = 1.0,
) -> None:
    """Show what `make` returns to each browser that asks for /, until cancelled.

    Raises ConfigError when the place is taken, or not to be had.
    """
    host, port = place
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise ConfigError(
            f"web.listen: {host} port {port} can't be used: {error.strerror}",
            remedy="see who has it (`ss -ltnp`), or choose another and restart",
        ) from None
    log.info("page served", extra=kv(at=f"http://{host}:{listeners[0].socket.getsockname()[1]}/"))
    heartbeat.expect(math.inf, "listening")
    page = shared(make)

    async def answer(stream: trio.SocketStream) -> None:
        # A browser waits in real time.
        with trio.move_on_after(_WITHIN_S * time_factor), suppress(trio.BrokenResourceError):
            await _converse(stream, page, ask_within_s=_ASKED_WITHIN_S * time_factor)
        await trio.aclose_forcefully(stream)

    await serve_few(answer, listeners, _AT_ONCE)


def shared(make: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[bytes]]:
    """Make one page at a time, for all who asked before it was begun.

    So that many browsers, or one that reloads again and again, cost no more than two.
    """
    one_at_a_time = trio.Lock()
    begun = 0
    last = (0, b"")  # which one it is, and the page

    async def page() -> bytes:
        nonlocal begun, last
        before = begun
        async with one_at_a_time:
            if last[0] <= before:
                begun = number = begun + 1
                last = (number, (await make()).encode())
            return last[1]

    return page


async def _converse(
    stream: trio.SocketStream, page: Callable[[], Awaitable[bytes]], *, ask_within_s: float
) -> None:
    http = h11.Connection(h11.SERVER)
    asked = None
    try:
        with trio.move_on_after(ask_within_s):
            asked = await _receive(http, stream)
        if asked is None:
            return
        status = _judge(asked)
    except h11.RemoteProtocolError:
        asked, status = None, HTTPStatus.BAD_REQUEST
    content = f"{status.value} {status.phrase}\n".encode()
    if status is HTTPStatus.OK:
        try:
            content = await page()
        except StoreError as error:
            status, content = HTTPStatus.SERVICE_UNAVAILABLE, str(error).encode()
        except Exception:
            # Nobody could be answered again if this ended the listening.
            log.exception("no page")
            status, content = HTTPStatus.INTERNAL_SERVER_ERROR, b"see the daemon's log"
    kind = "html" if status is HTTPStatus.OK else "plain"
    headers = [*_HEADERS, ("Content-Type", f"text/{kind}; charset=utf-8")]
    headers.append(("Content-Length", str(len(content))))
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    head = http.send(h11.Response(status_code=status.value, headers=headers)) or b""
    await stream.send_all(head)
    if asked is None or asked.method != b"HEAD":
        await stream.send_all(content)


async def _receive(http: h11.Connection, stream: trio.SocketStream) -> h11.Request | None:
    """Read a request's head; None when the browser has left."""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(_CHUNK))
        else:
            return event if isinstance(event, h11.Request) else None


def _judge(asked: h11.Request) -> HTTPStatus:
    """Return how a request is to be answered."""
    if asked.method not in (b"GET", b"HEAD"):
        return HTTPStatus.METHOD_NOT_ALLOWED
    host = dict(asked.headers).get(b"host", b"").decode("ascii", "replace")
    if not _is_ours(host):
        return HTTPStatus.MISDIRECTED_REQUEST
    if asked.target.partition(b"?")[0] != b"/":
        return HTTPStatus.NOT_FOUND
    return HTTPStatus.OK


def _is_ours(host: str) -> bool:
    try:
        return is_loopback(f"//{host}")
    except ValueError:
        return False
