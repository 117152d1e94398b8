"""A few clients at a time: the others wait, and nobody is forgotten."""

from __future__ import annotations

import errno
from functools import partial

import trio
import trio.testing

from pricecheck.serving import serve_few

CLIENTS = 10
MOST = 3


async def test_no_more_than_so_many_are_accepted_and_all_are_answered(
    nursery: trio.Nursery,
) -> None:
    """Whoever is not accepted yet costs no file of ours, and has its turn when one has left."""
    busy: list[int] = [0]
    most_busy = 0
    done = trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        nonlocal most_busy
        busy[0] += 1
        most_busy = max(most_busy, busy[0])
        await done.wait()
        busy[0] -= 1
        await stream.aclose()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(serve_few, answer, listeners, MOST)
    clients = [
        await trio.testing.open_stream_to_socket_listener(listeners[0]) for _ in range(CLIENTS)
    ]
    await trio.testing.wait_all_tasks_blocked(0.01)

    assert busy[0] == MOST
    done.set()
    assert [await client.receive_some() for client in clients] == [b""] * CLIENTS
    assert most_busy == MOST
    for client in clients:
        await client.aclose()


async def test_a_client_that_can_not_be_accepted_takes_no_room(nursery: trio.Nursery) -> None:
    """The system may be out of files for a moment: the next client is answered all the same."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    accept = listeners[0].accept
    fails = [OSError(errno.EMFILE, "too many")]

    async def accept_badly() -> trio.SocketStream:
        if fails:
            raise fails.pop()
        return await accept()

    listeners[0].accept = accept_badly  # type: ignore[method-assign]
    nursery.start_soon(partial(serve_few, trio.SocketStream.aclose, listeners, 1))

    async with await trio.testing.open_stream_to_socket_listener(listeners[0]) as client:
        assert await client.receive_some() == b""
    assert fails == []
