"""What goes wrong in the daemon on demand: installed in a box only, beside the program.

PRICECHECK_FAULT names a fault; the daemon then has one task more, `faulty`, which does it once
the file /opt/fault holds the invocation id of this start. `slow-disk` needs no such file: the
outbox then takes its time to open and to close.
"""

from __future__ import annotations

import os
import re
import time
from functools import partial
from typing import Any, Final

import trio

from pricecheck import supervisor
from pricecheck.outbox import Outbox
from pricecheck.supervisor import Heartbeat, Run, Supervisor

_TRIGGER: Final = trio.Path("/opt/fault")
_LONG_S: Final = 3600.0
_SLOW_S: Final = 5.0
_done: Final[list[str]] = []


async def _block_the_loop() -> None:
    time.sleep(_LONG_S)  # noqa: ASYNC251  # just that


async def _block_every_thread() -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")  # takes ages, and holds Python's lock meanwhile


async def _hang() -> None:
    await trio.sleep_forever()


async def _refuse_to_end() -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


_FAULTS: Final = {
    "blocked": _block_the_loop,
    "locked": _block_every_thread,
    "hung": _hang,
    "uncancellable": _refuse_to_end,
}


async def _is_triggered() -> bool:
    return await _TRIGGER.exists() and await _TRIGGER.read_text() == os.environ["INVOCATION_ID"]


async def _go_wrong(name: str, heartbeat: Heartbeat) -> None:
    while True:
        heartbeat.beat()
        if not _done and await _is_triggered():
            _done.append(name)
            await _FAULTS[name]()
        await trio.sleep(0.1)


_start: Final = Supervisor.start


def _start_with_fault(
    self: Supervisor,
    name: str,
    run: Run,
    policy: supervisor.RestartPolicy | None = None,
    *,
    stall_after: float,
) -> None:
    _start(self, name, run, policy, stall_after=stall_after)
    if name == "housekeeping":
        _start(self, "faulty", partial(_go_wrong, os.environ["PRICECHECK_FAULT"]), stall_after=1)


_open: Final = Outbox.open
_close: Final = Outbox.close


def _open_slowly(*arguments: Any, **options: Any) -> Outbox:
    time.sleep(_SLOW_S)
    return _open(*arguments, **options)


def _close_slowly(self: Outbox) -> None:
    time.sleep(_SLOW_S)
    _close(self)


if os.environ["PRICECHECK_FAULT"] == "slow-disk":
    Outbox.open = _open_slowly  # type: ignore[method-assign]
    Outbox.close = _close_slowly  # type: ignore[method-assign]
else:
    Supervisor.start = _start_with_fault  # type: ignore[method-assign]
    supervisor.STUCK_AFTER_S = 1  # type: ignore[misc]
