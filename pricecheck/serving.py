"""Answers clients a few at a time; the others wait in the kernel's queue, and cost nothing of ours.

Without a limit, whoever may connect could use up all the files that the process may have open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio


async def serve_few(
    answer: Callable[[trio.SocketStream], Awaitable[None]],
    listeners: Sequence[trio.SocketListener],
    most: int,
) -> None:
    """Let each client be answered, `most` of them at once; until cancelled.

    `answer` has to come to an end however its client behaves.
    """
    room = trio.Semaphore(most)

    async def answer_one(stream: trio.SocketStream) -> None:
        try:
            await answer(stream)
        finally:
            room.release()

    await trio.serve_listeners(answer_one, [_Patient(one, room) for one in listeners])


class _Patient(trio.abc.Listener[trio.SocketStream]):
    """A listener that accepts only where there is room."""

    def __init__(self, listener: trio.SocketListener, room: trio.Semaphore) -> None:
        self._listener = listener
        self._room = room

    async def accept(self) -> trio.SocketStream:
        await self._room.acquire()
        try:
            return await self._listener.accept()
        except BaseException:
            self._room.release()
            raise

    async def aclose(self) -> None:
        await self._listener.aclose()
