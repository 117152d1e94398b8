"""Simulators on real sockets, started within the test's own nursery."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
import trio

from pricecheck.simulator.server import serve
from pricecheck.simulator.settings import Settings

Simulate = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def simulate(nursery: trio.Nursery) -> AsyncIterator[Simulate]:
    """Start a simulator with the settings given, and return a client of it."""
    async with AsyncExitStack() as clients:

        async def start(**settings: Any) -> httpx.AsyncClient:
            port = await nursery.start(serve, Settings(**settings))
            client = httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", params={"key": "of-the-tests"}, timeout=20
            )
            return await clients.enter_async_context(client)

        yield start
