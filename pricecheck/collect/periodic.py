"""A task that does one thing every so often, and remembers over restarts when it last did."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from pricecheck.bucket import NoRefillError, TooExpensiveError
from pricecheck.keepa.errors import KeepaError
from pricecheck.keepa.time import to_rfc3339
from pricecheck.logs import kv
from pricecheck.supervisor import Heartbeat
from pricecheck.timescale import TimeScale

log = logging.getLogger(__name__)

_RETRY_MS = 10 * 60_000


async def periodically(
    heartbeat: Heartbeat,
    once: Callable[[], Awaitable[None]],
    *,
    every_s: int,
    last_ms: int | None,
    time: TimeScale,
) -> None:
    """Run `once` for ever, `every_s` seconds after it last succeeded (`last_ms`, Unix time).

    A KeepaError is logged and tried again when it says so, else at the next regular time.
    """
    due_ms = 0 if last_ms is None else last_ms + every_s * 1000
    while True:
        if (left_ms := due_ms - time.now_ms()) > 0:
            until = trio.current_time() + left_ms / 1000
            heartbeat.expect(until, f"next at {to_rfc3339(due_ms)[:16]}Z")
            await trio.sleep_until(until)
        try:
            await once()
            wait_ms = every_s * 1000
        except KeepaError as error:
            wait_ms = min(error.retry_after_ms or every_s * 1000, every_s * 1000)
            log.warning("collection failed", extra=kv(reason=str(error), again_s=wait_ms // 1000))
        except (TooExpensiveError, NoRefillError) as error:
            wait_ms = min(_RETRY_MS, every_s * 1000)
            log.warning("collection failed", extra=kv(reason=str(error), again_s=wait_ms // 1000))
        heartbeat.beat()
        due_ms = time.now_ms() + wait_ms
