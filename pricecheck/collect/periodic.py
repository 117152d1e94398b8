"""A task that does one thing every so often, and remembers over restarts when it last did."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from pricecheck.bucket import NoRefillError, TooExpensiveError
from pricecheck.collect.spending import Spender
from pricecheck.collect.trouble import Trouble
from pricecheck.keepa.errors import KeepaError, RejectedError
from pricecheck.keepa.time import to_rfc3339
from pricecheck.supervisor import Heartbeat

NAP_S: Final = 600.0
"""A jump of the clock is noticed after so many seconds of a longer wait."""


async def periodically(
    heartbeat: Heartbeat,
    once: Callable[[], Awaitable[int]],
    *,
    every_s: int,
    spender: Spender,
    trouble: Trouble,
    mark: str | None = None,
) -> None:
    """Run `once` for ever; it returns the seconds until it is to run again.

    The first time is `every_s` after the mark of the task: `mark`, or what `trouble.task` names. A
    call that fails is tried again when its error says so, else at the next regular time.
    """
    marked_ms = (await spender.marks()).get(mark or trouble.task)
    now_ms = spender.time.now_ms
    # A mark that lies ahead was set by a clock that has been put right since.
    due_ms = 0 if marked_ms is None else min(marked_ms, now_ms()) + every_s * 1000
    wait_ms = every_s * 1000
    while True:
        # Never longer than meant: the clock may be put back while we wait.
        while (left_ms := min(due_ms - now_ms(), wait_ms)) > 0:
            due_ms = now_ms() + left_ms
            now = trio.current_time()
            heartbeat.expect(now + left_ms / 1000, f"next at {to_rfc3339(due_ms)[:16]}Z")
            await trio.sleep(min(left_ms / 1000, NAP_S))
        try:
            wait_ms = await once() * 1000
            trouble.end()
        except RejectedError as error:
            trouble.begin(error)
            wait_ms = every_s * 1000
        except (KeepaError, TooExpensiveError, NoRefillError) as error:
            wait_ms = trouble.begin(error, paid_most_ms=every_s * 1000)
        heartbeat.beat()
        due_ms = now_ms() + wait_ms
