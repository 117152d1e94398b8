"""What the network may do to a call, and what the client makes of it."""

from __future__ import annotations

import gzip
import json
import socket
from collections.abc import Awaitable, Callable

import httpx
import pytest
import trio

from pricecheck.errors import ConfigError
from pricecheck.keepa import client, errors
from pricecheck.keepa.client import Call, KeepaClient, ProductQuery, Timeouts
from pricecheck.keepa.errors import KeepaError
from pricecheck.keepa.tables import BY_CODE

from .conftest import KEY, Connect, Converse, Listen

FIGURES = json.dumps({"tokensLeft": 7, "refillIn": 1000, "refillRate": 20}).encode()
LOCAL = "http://127.0.0.1"


async def request_of(stream: trio.SocketStream) -> bytes:
    """Read one request without a body; empty when the client has left."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = await stream.receive_some()
        if not part:
            return b""
        head += part
    return head


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answering(message: bytes) -> Converse:
    """Answer every request of a connection with these bytes."""

    async def converse(stream: trio.SocketStream) -> None:
        while await request_of(stream):
            await stream.send_all(message)

    return converse


def unused_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def test_a_refused_connection_costs_nothing(connect: Connect, calls: list[Call]) -> None:
    """Nobody listens: nothing was sent, so nothing was paid; it is reported all the same."""
    keepa = await connect(f"{LOCAL}:{unused_port()}")

    with pytest.raises(errors.UnreachableError) as caught:
        await keepa.token()

    assert not caught.value.paid
    assert "network" in caught.value.remedy
    assert [(call.status, call.error) for call in calls] == [(None, caught.value.message)]


async def test_a_name_that_does_not_resolve_is_unreachable(connect: Connect) -> None:
    """.invalid never resolves; the reason is the system's own words."""
    keepa = await connect("http://keepa.invalid")

    with pytest.raises(errors.UnreachableError, match=r"ConnectError: .+"):
        await keepa.token()


async def test_without_tls_where_tls_should_be_nothing_is_sent(
    connect: Connect, listen: Listen
) -> None:
    """A server that speaks no TLS never sees the key, and the reason is told."""
    heard = bytearray()

    async def converse(stream: trio.SocketStream) -> None:
        heard.extend(await stream.receive_some())
        await stream.send_all(response(FIGURES))

    keepa = await connect((await listen(converse)).replace("http:", "https:"))

    with pytest.raises(errors.UnreachableError, match="SSL"):
        await keepa.token()

    assert heard
    assert b"key" not in heard


@pytest.mark.parametrize("timeouts", [Timeouts(connect_s=0.1), Timeouts(call_s=0.1)])
async def test_a_connection_that_is_not_made_in_time_costs_nothing(
    connect: Connect, calls: list[Call], timeouts: Timeouts
) -> None:
    """Whichever limit comes first: before the request has gone, it is not paid."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        crowd = [socket.socket() for _ in range(2)]
        for one in crowd:  # the queue of connections to accept takes no more
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        keepa = await connect(f"{LOCAL}:{port}", timeouts=timeouts)

        with pytest.raises(errors.UnreachableError, match=r"0\.1 s"):
            await keepa.token()

        for one in crowd:
            one.close()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("timeouts", "reason"),
    [(Timeouts(read_s=0.1), r"nothing for 0\.1 s"), (Timeouts(call_s=0.1), r"not within 0\.1 s")],
)
async def test_silence_after_the_request_counts_as_paid(
    connect: Connect, listen: Listen, timeouts: Timeouts, reason: str
) -> None:
    """Whichever limit comes first: the request has gone, so it may have cost."""

    async def converse(stream: trio.SocketStream) -> None:
        await request_of(stream)
        await trio.sleep_forever()

    keepa = await connect(await listen(converse), timeouts=timeouts)

    with pytest.raises(errors.TimedOutError, match=reason) as caught:
        await keepa.token()

    assert caught.value.paid
    assert caught.value.smaller


async def test_a_connection_closed_while_idle_is_not_used_again(
    connect: Connect, listen: Listen
) -> None:
    """Servers close what is idle: the next call goes over a new connection, without a doubt."""
    closed = trio.Event()

    async def converse(stream: trio.SocketStream) -> None:
        await request_of(stream)
        await stream.send_all(response(FIGURES))
        await stream.aclose()
        closed.set()

    keepa = await connect(await listen(converse))
    await keepa.token()
    await closed.wait()

    assert (await keepa.token()).tokens_left == 7


async def test_a_connection_closed_on_a_request_is_in_doubt(
    connect: Connect, listen: Listen, calls: list[Call]
) -> None:
    """Closed with a request on its way, nobody knows: it counts as paid, and is not resent."""
    requests: list[bytes] = []

    async def converse(stream: trio.SocketStream) -> None:
        requests.append(await request_of(stream))
        await stream.send_all(response(FIGURES))
        requests.append(await request_of(stream))

    keepa = await connect(await listen(converse))
    await keepa.token()

    with pytest.raises(errors.TimedOutError):
        await keepa.token()

    assert len(requests) == len(calls) == 2


async def test_calls_share_a_connection_one_after_the_other(
    connect: Connect, listen: Listen
) -> None:
    """A second call needs no second connection."""
    connections: list[trio.SocketStream] = []

    async def converse(stream: trio.SocketStream) -> None:
        connections.append(stream)
        await answering(response(FIGURES))(stream)

    keepa = await connect(await listen(converse))

    for _ in range(3):
        await keepa.token()

    assert len(connections) == 1


async def test_calls_run_at_the_same_time(
    connect: Connect, listen: Listen, calls: list[Call]
) -> None:
    """As many as are asked for are in flight at once, and each gets its own answer."""
    arrived = 0
    all_there = trio.Event()

    async def converse(stream: trio.SocketStream) -> None:
        nonlocal arrived
        while request := await request_of(stream):
            arrived += 1
            if arrived == 32:
                all_there.set()
            await all_there.wait()
            asin = request.partition(b"asin=")[2][:10].decode()
            await stream.send_all(response(json.dumps({"products": [{"asin": asin}]}).encode()))

    keepa = await connect(await listen(converse))
    answers: dict[str, str] = {}

    async def ask(asin: str) -> None:
        answer = await keepa.products(BY_CODE["DE"], [asin], ProductQuery())
        answers[asin] = answer.products[0].asin

    async with trio.open_nursery() as nursery:
        for number in range(32):
            nursery.start_soon(ask, f"B{number:09d}")

    assert answers == {f"B{number:09d}": f"B{number:09d}" for number in range(32)}
    assert [call.error for call in calls] == [None] * 32


async def cancel_once(arrived: trio.Event, call: Callable[[], Awaitable[object]]) -> None:
    """Begin a call, and cancel it when its server says so."""
    async with trio.open_nursery() as nursery:

        async def begin() -> None:
            await call()
            pytest.fail("the call came to an end")

        nursery.start_soon(begin)
        await arrived.wait()
        nursery.cancel_scope.cancel()


async def test_a_cancelled_call_is_reported_once(
    connect: Connect, listen: Listen, calls: list[Call]
) -> None:
    """Given up on before an answer came, it leaves its figures; the client goes on."""
    arrived = trio.Event()

    async def converse(stream: trio.SocketStream) -> None:
        first = not arrived.is_set()
        await request_of(stream)
        arrived.set()
        if first:
            await trio.sleep_forever()
        await stream.send_all(response(FIGURES))

    keepa = await connect(await listen(converse))

    await cancel_once(arrived, keepa.token)

    (call,) = calls
    assert (call.operation, call.status, call.envelope) == ("token", None, None)
    assert call.error == "given up before an answer came"
    assert (await keepa.token()).tokens_left == 7


async def test_cancelled_calls_use_no_connection_up(
    connect: Connect, listen: Listen, calls: list[Call]
) -> None:
    """After far more of them than connections are kept, there is still one for the next call."""
    waiting = 0
    arrived = trio.Event()

    async def converse(stream: trio.SocketStream) -> None:
        nonlocal waiting
        await request_of(stream)
        waiting += 1
        if waiting <= 100:
            if waiting == 100:
                arrived.set()
            await trio.sleep_forever()
        await stream.send_all(response(FIGURES))

    keepa = await connect(await listen(converse))

    async def many() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(120):
                nursery.start_soon(keepa.token)

    await cancel_once(arrived, many)

    assert (await keepa.token()).tokens_left == 7
    assert len(calls) == 121


async def test_an_answer_that_is_whole_is_brought_home(
    connect: Connect, listen: Listen, calls: list[Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled before the answer is decoded, a call that has been paid for still succeeds."""
    body = json.dumps({"products": [{"asin": "B000000001"}], "tokensLeft": 7}).encode()
    keepa = await connect(await listen(answering(response(body))))
    read_body = client._body
    found = []

    async def cancel_with_the_last_byte(response: httpx.Response) -> bytearray:
        content = await read_body(response)
        scope.cancel()
        return content

    monkeypatch.setattr(client, "_body", cancel_with_the_last_byte)
    with trio.CancelScope() as scope:
        found.append(await keepa.products(BY_CODE["DE"], ["B000000001"], ProductQuery()))

    assert scope.cancel_called
    assert [len(answer.products) for answer in found] == [1]
    assert [(call.status, call.error) for call in calls] == [(200, None)]


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
async def test_gzip_is_asked_for_and_unpacked(
    connect: Connect, listen: Listen, encoding: str
) -> None:
    """Keepa packs every body."""
    heard: list[bytes] = []
    packed = response(gzip.compress(FIGURES), f"Content-Encoding: {encoding}")

    async def converse(stream: trio.SocketStream) -> None:
        heard.append(await request_of(stream))
        await stream.send_all(packed)

    keepa = await connect(await listen(converse))

    assert (await keepa.token()).tokens_left == 7
    assert b"accept-encoding: gzip\r\n" in heard[0].lower()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(FIGURES)[:-9], "ends early"),
        (gzip.compress(FIGURES)[:-8] + b"\0" * 8, "broken"),
        (FIGURES, "broken"),
        (b"", "form"),
    ],
    ids=["cut", "wrong checksum", "not packed", "empty"],
)
async def test_what_cannot_be_unpacked_is_a_bad_answer(
    connect: Connect, listen: Listen, body: bytes, reason: str
) -> None:
    """The header says gzip, the bytes do not; it may have been paid for."""
    keepa = await connect(await listen(answering(response(body, "Content-Encoding: gzip"))))

    with pytest.raises(errors.BadAnswerError, match=reason) as caught:
        await keepa.token()

    assert caught.value.paid


async def test_an_error_page_that_cannot_be_read_tells_by_its_status(
    connect: Connect, listen: Listen
) -> None:
    """A front end's HTML under 502, or gzip that is none, is trouble of Keepa's."""
    page = response(b"<html>", "Content-Encoding: gzip", status="502 Bad Gateway")
    keepa = await connect(await listen(answering(page)))

    with pytest.raises(errors.ServerError, match="502"):
        await keepa.token()


@pytest.mark.parametrize("packed", [True, False])
async def test_an_answer_beyond_all_size_is_not_read(
    connect: Connect, listen: Listen, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    """Neither a body without end nor one that unpacks to it fills the memory."""
    monkeypatch.setattr(client, "MAX_BODY_BYTES", 1_000_000)
    padded = FIGURES[:-1] + b" " * 1_000_000 + b"}"
    body = gzip.compress(padded) if packed else padded
    headers = ["Content-Encoding: gzip"] if packed else []
    keepa = await connect(await listen(answering(response(body, *headers))))

    with pytest.raises(errors.BadAnswerError, match="larger than"):
        await keepa.token()


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary", "308 P"])
async def test_a_redirection_is_not_followed(
    connect: Connect, listen: Listen, calls: list[Call], status: str
) -> None:
    """The key goes to nobody but Keepa; the operator learns where to look."""
    visitors: list[bytes] = []

    async def elsewhere(stream: trio.SocketStream) -> None:
        visitors.append(await request_of(stream))

    moved = response(b"", f"Location: {await listen(elsewhere)}/token", status=status)
    keepa = await connect(await listen(answering(moved)))

    with pytest.raises(errors.UnreachableError, match=status[:3]) as caught:
        await keepa.token()

    assert "keepa.url" in caught.value.remedy
    assert visitors == []
    assert [call.status for call in calls] == [int(status[:3])]


async def test_a_redirection_to_nowhere_is_an_error_too(connect: Connect, listen: Listen) -> None:
    """An address that can't be read is not followed either."""
    moved = response(b"", "Location: http://[::1", status="302 Found")
    keepa = await connect(await listen(answering(moved)))

    with pytest.raises(KeepaError):
        await keepa.token()


async def test_a_proxy_never_sees_a_request_without_tls(
    connect: Connect, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain http is for this machine: a proxy of the environment is not asked, key and all."""
    visitors: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        visitors.append(await request_of(stream))

    address = await listen(proxy)
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, address)
        monkeypatch.setenv(name.lower(), address)
    keepa = await connect(await listen(answering(response(FIGURES))))

    assert (await keepa.token()).tokens_left == 7
    assert visitors == []


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b""])
async def test_a_proxy_is_used_with_tls_and_sees_no_key(
    connect: Connect, listen: Listen, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    """It is asked to connect through; when it will not, nothing has reached Keepa."""
    visitors: list[bytes] = []

    async def proxy(stream: trio.SocketStream) -> None:
        visitors.append(await request_of(stream))
        await stream.send_all(answer)

    monkeypatch.setenv("HTTPS_PROXY", await listen(proxy))
    keepa = await connect("https://keepa.invalid")

    with pytest.raises(errors.UnreachableError) as caught:
        await keepa.token()

    assert not caught.value.paid
    assert visitors[0].startswith(b"CONNECT keepa.invalid:443 ")
    assert b"key" not in visitors[0]


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://keepa.invalid", "gopher://user:hidden@proxy.invalid"),
        ("https://keepa.invalid", "http://user:hidden@[::1"),
        ("https://user:hidden@[::1", ""),
        ("https://999.1.1.1/hidden", ""),
    ],
)
def test_an_address_that_cannot_be_used_is_the_operators_to_mend(
    monkeypatch: pytest.MonkeyPatch, url: str, proxy: str
) -> None:
    """Of Keepa or of a proxy: the error says where to look, and shows no password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)

    with pytest.raises(ConfigError, match="proxy") as caught:
        KeepaClient(KEY, url=url, timeouts=Timeouts())

    assert "HTTPS_PROXY" in caught.value.remedy
    assert "hidden" not in str(caught.value)


async def test_a_server_that_speaks_no_http_is_an_error(connect: Connect, listen: Listen) -> None:
    """Whatever answers there, it ends in a KeepaError."""
    keepa = await connect(await listen(answering(b"220 mail ready\r\n\r\n")))

    with pytest.raises(errors.TimedOutError, match="RemoteProtocolError"):
        await keepa.token()


async def test_figures_that_are_all_0_are_not_a_count(listen: Listen, connect: Connect) -> None:
    """A key without a plan gets them, under 200 and without an error: it is asked again later."""
    url = await listen(answering(response(b'{"tokensLeft": 0, "refillIn": 0, "refillRate": 0}')))

    with pytest.raises(errors.KeyRejectedError, match="no tokens and no refill"):
        await (await connect(url)).token()
