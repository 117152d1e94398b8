"""The served page: whom it answers, and how."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from pricecheck.errors import ConfigError, StoreError
from pricecheck.page.serve import serve, shared
from pricecheck.supervisor import Heartbeat
from tests.daemons import free_port

Make = Callable[[], Awaitable[str]]
Serve = Callable[[Make], Awaitable[httpx.AsyncClient]]


async def page() -> str:
    return "<p>ü</p>"


@pytest.fixture
async def served(nursery: trio.Nursery) -> AsyncIterator[Serve]:
    """Serve a page; return a client that asks for it."""
    port = free_port()

    async def begin(make: Make) -> httpx.AsyncClient:
        nursery.start_soon(serve, ("127.0.0.1", port), make, Heartbeat(math.inf))
        with trio.fail_after(10):
            while True:
                with socket.socket() as probe:
                    if not probe.connect_ex(("127.0.0.1", port)):
                        return client
                await trio.sleep(0.01)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        yield begin


async def test_a_browser_gets_the_page(served: Serve) -> None:
    """Whole, not to be kept, framed or sniffed."""
    client = await served(page)

    answer = await client.get("/?x")

    assert (answer.status_code, answer.text) == (200, "<p>ü</p>")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"


async def test_the_page_is_made_anew_for_who_asks_later(served: Serve) -> None:
    """Nobody gets one that was begun before he asked."""
    made: list[str] = []

    async def make() -> str:
        made.append("page")
        return str(len(made))

    client = await served(make)

    assert [(await client.get("/")).text for _ in range(3)] == ["1", "2", "3"]


async def test_fifty_browsers_at_once_cost_two_pages() -> None:
    """The first one's, and one for all who asked while that was made."""
    made: list[trio.Event] = []

    async def make() -> str:
        made.append(trio.Event())
        number = len(made)
        await made[-1].wait()
        return str(number)

    page = shared(make)
    found: list[bytes] = []

    async def ask() -> None:
        found.append(await page())

    async with trio.open_nursery() as browsers:
        browsers.start_soon(ask)
        await wait_all_tasks_blocked()
        for _ in range(49):
            browsers.start_soon(ask)
        await wait_all_tasks_blocked()
        made[0].set()
        await wait_all_tasks_blocked()
        made[1].set()

    assert sorted(found) == [b"1", *(49 * [b"2"])]


async def test_who_leaves_takes_no_page_from_the_others() -> None:
    """The next one's is made instead, and no more than that."""
    made = 0

    async def make() -> str:
        nonlocal made
        made += 1
        if made == 1:
            await trio.sleep_forever()
        return str(made)

    page = shared(make)
    found: list[bytes] = []

    async def ask() -> None:
        found.append(await page())

    async with trio.open_nursery() as stay, trio.open_nursery() as leave:
        leave.start_soon(ask)
        await wait_all_tasks_blocked()
        for _ in range(20):
            leave.start_soon(ask)
            stay.start_soon(ask)
        await wait_all_tasks_blocked()
        leave.cancel_scope.cancel()

    assert found == 20 * [b"2"]


async def test_head_tells_the_length_only(served: Serve) -> None:
    client = await served(page)

    answer = await client.head("/")

    assert (answer.status_code, answer.headers["content-length"], answer.text) == (200, "9", "")


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/favicon.ico", "localhost", 404),
        ("POST", "/", "127.0.0.1:1", 405),
        ("GET", "/", "evil.example", 421),
        ("GET", "/", "127.0.0.1.evil.example", 421),
        ("GET", "/", "[::1", 421),
        ("GET", "/", "[::1]:80", 200),
    ],
)
async def test_others_are_refused(
    served: Serve, method: str, path: str, host: str, status: int
) -> None:
    """What it has not, what would change something, and names that are not this machine's."""
    client = await served(page)

    answer = await client.request(method, path, headers={"Host": host})

    assert answer.status_code == status
    assert (answer.text == "<p>ü</p>") == (status == 200)


async def test_it_outlives_what_is_no_http(served: Serve) -> None:
    """Whoever speaks anything else, or leaves in the middle, is let go."""
    client = await served(page)
    port = client.base_url.port
    for words in (b"", b"\x16\x03\x01\0\xff\r\n\r\n", b"GET / HTTP/1.1\r\nHos"):
        async with await trio.open_tcp_stream("127.0.0.1", port or 0) as stream:
            await stream.send_all(words)
            await stream.send_eof()
            with trio.fail_after(10):
                said = b"".join([part async for part in stream])
            assert not said or said.startswith(b"HTTP/1.1 400 ")

    assert (await client.get("/")).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (StoreError("no store", remedy="start it"), 503, "no store"),
        (RuntimeError("planted"), 500, "see the daemon's log"),
    ],
)
async def test_a_page_that_can_not_be_made_is_told(
    served: Serve, error: Exception, status: int, said: str
) -> None:
    """What people can mend in its own words, and a bug in the log only; it serves on."""
    errors = [error]

    async def make() -> str:
        if errors:
            raise errors.pop()
        return "mended"

    client = await served(make)

    answer = await client.get("/")

    assert answer.status_code == status
    assert said in answer.text
    assert "planted" not in answer.text
    assert (await client.get("/")).text == "mended"


async def test_a_place_that_is_taken_is_told() -> None:
    """With what to do; the supervisor tries again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = ("127.0.0.1", taken.getsockname()[1])

        with pytest.raises(ConfigError, match="in use") as caught:
            await serve(place, page, Heartbeat(math.inf))

    assert caught.value.remedy


async def test_browsers_that_never_ask_keep_nobody_out(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are few at a time, and each has so long to ask and no longer."""
    monkeypatch.setattr("pricecheck.page.serve._AT_ONCE", 2)
    monkeypatch.setattr("pricecheck.page.serve._ASKED_WITHIN_S", 0.05)
    client = await served(page)
    silent = [await trio.open_tcp_stream("127.0.0.1", client.base_url.port or 0) for _ in range(6)]
    await silent[1].send_all(b"GET / HT")

    answer = await client.get("/")

    assert answer.status_code == 200
    assert [await one.receive_some() for one in silent] == [b""] * 6
    for one in silent:
        await one.aclose()
