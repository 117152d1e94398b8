"""The simulator's HTTP/1.1 server on loopback, and what faults do to a connection."""

from __future__ import annotations

import gzip
import socket
import struct
from contextlib import closing
from functools import partial
from urllib.parse import parse_qsl, urlsplit

import h11
import msgspec
import trio

from pricecheck.errors import InputError
from pricecheck.simulator.api import Api, Reply, Request
from pricecheck.simulator.faults import NOT_GZIP
from pricecheck.simulator.ledger import Entry, Ledger
from pricecheck.simulator.settings import Settings, SimulatedTime, real_now_ms

_CHUNK = 65_536
_THREAD_FROM_BYTES = 100_000
_SILENCES = ("refused", "reset", "timeout")
_DRIBBLES = 40
_DRIBBLE_S = 0.5  # simulated


async def serve(
    settings: Settings, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve a simulated Keepa until cancelled; started, with its port, once it listens.

    Raises InputError for a replay directory, a ledger or a port that can't be used.
    """
    epoch_ms = real_now_ms() if settings.epoch_ms is None else settings.epoch_ms
    api = Api(settings, SimulatedTime(settings.time_factor, epoch_ms).now_ms)
    try:
        listeners = await trio.open_tcp_listeners(settings.port, host="127.0.0.1")
    except OSError as error:
        raise InputError(
            f"port {settings.port} can't be used: {error.strerror}", remedy="use another, or 0"
        ) from None
    with closing(Ledger(settings.ledger)) as ledger:
        async with trio.open_nursery() as nursery:
            converse = partial(_converse, api, ledger, settings.time_factor)
            await nursery.start(trio.serve_listeners, converse, listeners)
            task_status.started(listeners[0].socket.getsockname()[1])


async def _converse(
    api: Api, ledger: Ledger, time_factor: float, stream: trio.SocketStream
) -> None:
    """Answer one client's requests until it leaves, breaks the protocol, or a fault cuts it off."""
    http = h11.Connection(h11.SERVER)
    pause_s = _DRIBBLE_S / time_factor
    try:
        while (asked := await _receive(http, stream)) is not None:
            request, takes_gzip = asked
            reply = api.answer(request)
            if reply.entry.fault in _SILENCES:
                ledger.write(reply.entry)
                await _stay_silent(reply.entry.fault, stream)
                return
            head, body = await _message(http, reply, takes_gzip=takes_gzip)
            await _send(stream, ledger, reply.entry, head, body, pause_s)
            if reply.entry.fault == "cut" or http.our_state is not h11.DONE:
                return
            http.start_next_cycle()
    except (h11.ProtocolError, trio.BrokenResourceError):
        return


async def _receive(http: h11.Connection, stream: trio.SocketStream) -> tuple[Request, bool] | None:
    """Read one request, and whether its sender takes gzip; None when the client has left."""
    head: h11.Request | None = None
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(_CHUNK))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            break
        else:
            return None
    url = urlsplit(head.target.decode("ascii"))
    params = dict(parse_qsl(url.query))
    request = Request(head.method.decode("ascii"), url.path.strip("/"), params, body)
    return request, b"gzip" in dict(head.headers).get(b"accept-encoding", b"")


async def _stay_silent(fault: str | None, stream: trio.SocketStream) -> None:
    """Never answer: hold the connection until the client leaves, or have it reset on close."""
    if fault == "timeout":
        while await stream.receive_some(_CHUNK):
            pass
    elif fault == "reset":
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _message(http: h11.Connection, reply: Reply, *, takes_gzip: bool) -> tuple[bytes, bytes]:
    """Return a reply's head and body as they go over the wire, packed if the client takes that."""
    fault, body = reply.entry.fault, reply.body
    kind = "text/html" if fault == "notjson" else "application/json;charset=UTF-8"
    headers = [("Server", "pricecheck-simulator"), ("Content-Type", kind)]
    if fault == "badgzip":
        headers.append(("Content-Encoding", "gzip"))
        body = NOT_GZIP
    elif takes_gzip and body:
        headers.append(("Content-Encoding", "gzip"))
        body = await _packed(body)
    headers.append(("Content-Length", str(len(body))))
    head = http.send(h11.Response(status_code=reply.entry.status or 200, headers=headers))
    parts = (http.send(h11.Data(data=body)), http.send(h11.EndOfMessage()))
    return head or b"", b"".join(part or b"" for part in parts)


async def _packed(body: bytes) -> bytes:
    pack = partial(gzip.compress, body, compresslevel=1, mtime=0)
    if len(body) < _THREAD_FROM_BYTES:
        return pack()
    return await trio.to_thread.run_sync(pack, abandon_on_cancel=True)


async def _send(
    stream: trio.SocketStream,
    ledger: Ledger,
    entry: Entry,
    head: bytes,
    body: bytes,
    pause_s: float,
) -> None:
    """Send a message and write its entry: whoever has the last byte finds it in the ledger."""
    delivered = False
    message = head + (body[: len(body) // 2] if entry.fault == "cut" else body)
    try:
        if entry.fault == "slow":
            await _dribble(stream, message[:-1], pause_s)
        else:
            await stream.send_all(message[:-1])
        delivered = entry.fault != "cut"
    finally:
        ledger.write(msgspec.structs.replace(entry, delivered=delivered))
    await stream.send_all(message[-1:])


async def _dribble(stream: trio.SocketStream, message: bytes, pause_s: float) -> None:
    size = len(message) // _DRIBBLES + 1
    for first in range(0, len(message), size):
        await stream.send_all(message[first : first + size])
        await trio.sleep(pause_s)
