"""Where every thread and every trio task stands, as log lines: what a hang leaves behind.

Only reads, and may be called from any thread at any time; what it shows of a program that runs
on meanwhile is true for each line by itself.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from pricecheck.logs import kv

if TYPE_CHECKING:  # what reads a config comes here through systemd.py, and starts quickly
    import trio

log = logging.getLogger(__name__)


def log_all(root: trio.lowlevel.Task | None) -> None:
    """Log a line for each thread, and for each trio task from `root` on, innermost frame first."""
    for name, frames in _threads():
        log.error("thread stack", extra=kv(thread=name, stack=_line(frames)))
    for task in _tasks(root):
        nursery = task.parent_nursery
        parent = nursery.parent_task.name if nursery else None
        try:
            stack = _line(reversed(list(task.iter_await_frames())))
        except Exception as error:  # noqa: BLE001  # the task may be running on while we look
            stack = f"not readable: {error!r}"
        log.error("task stack", extra=kv(task=task.name, parent=parent, stack=stack))


def _threads() -> Iterator[tuple[str, Iterable[tuple[FrameType, int]]]]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield names.get(ident, str(ident)), _outwards(frame)


def _outwards(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    while frame is not None:
        yield frame, frame.f_lineno
        frame = frame.f_back


def _tasks(root: trio.lowlevel.Task | None) -> Iterator[trio.lowlevel.Task]:
    waiting = [root] if root else []
    while waiting:
        task = waiting.pop()
        yield task
        # `list` copies in one step, whatever the event loop does meanwhile.
        for nursery in list(task.child_nurseries):
            waiting += list(nursery.child_tasks)


def _line(frames: Iterable[tuple[FrameType, int]]) -> str:
    return " < ".join(
        f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}:{line}"
        for frame, line in frames
    )
