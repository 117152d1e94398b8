"""Clients of simulators, and of servers that do one thing wrong, on real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import pytest
import trio

from pricecheck.keepa.client import Call, KeepaClient, Timeouts
from pricecheck.simulator.server import serve
from pricecheck.simulator.settings import Settings

Connect = Callable[..., Awaitable[KeepaClient]]
Simulate = Callable[..., Awaitable[KeepaClient]]
Converse = Callable[[trio.SocketStream], Awaitable[None]]
Listen = Callable[[Converse], Awaitable[str]]

KEY = "the/key+of=these&tests"


@pytest.fixture
def calls() -> list[Call]:
    """What the test's clients report of their calls."""
    return []


@pytest.fixture
async def connect(calls: list[Call]) -> AsyncIterator[Connect]:
    """Make a client of an address; it is closed with the test."""
    async with AsyncExitStack() as clients:

        async def make(
            url: str, *, timeouts: Timeouts | None = None, key: str = KEY
        ) -> KeepaClient:
            client = KeepaClient(
                key, url=url, timeouts=timeouts or Timeouts(), on_call=calls.append
            )
            return await clients.enter_async_context(client)

        yield make


@pytest.fixture
async def simulate(nursery: trio.Nursery, connect: Connect) -> Simulate:
    """Start a simulator with the settings given, and return a client of it."""

    async def start(*, timeouts: Timeouts | None = None, **settings: Any) -> KeepaClient:
        port = await nursery.start(serve, Settings(**settings))
        return await connect(f"http://127.0.0.1:{port}", timeouts=timeouts)

    return start


@pytest.fixture
async def listen(nursery: trio.Nursery) -> Listen:
    """Serve each connection by a function of the test's; return the address."""

    async def start(converse: Converse) -> str:
        async def until_it_leaves(stream: trio.SocketStream) -> None:
            with suppress(trio.BrokenResourceError):
                await converse(stream)

        listeners = await nursery.start(
            partial(trio.serve_tcp, until_it_leaves, 0, host="127.0.0.1")
        )
        return f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"

    return start
