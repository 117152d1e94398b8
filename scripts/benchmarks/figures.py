"""How a figure is printed: a row of one table, with its bound and whether it was kept."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

_WIDTHS = (45, 22, 31, 7, 7)
HEAD = ("figure", "measured", "against", "ratio", "bound", "")


class Row(NamedTuple):
    """One line of the table; `passed` is None where there is no bound to pass."""

    figure: str
    measured: str
    against: str = ""
    ratio: str = ""
    bound: str = ""
    passed: bool | None = None

    def __str__(self) -> str:
        """Return the row in the table's columns."""
        verdict = {None: "", True: "ok", False: "MISSED"}[self.passed]
        return line(*self[:5], verdict)


def line(*cells: str) -> str:
    """Return cells in the table's columns."""
    padded = [cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=False)]
    return "  ".join((*padded, *cells[len(_WIDTHS) :])).rstrip()


def at_least(figure: str, measured: str, against: str, ratio: float, bound: float) -> Row:
    """Return a row whose ratio should not fall below its bound."""
    return Row(figure, measured, against, f"{ratio:.2f}", f">={bound:g}", ratio >= bound)


def at_most(figure: str, measured: str, against: str, ratio: float, bound: float) -> Row:
    """Return a row whose ratio should not exceed its bound."""
    return Row(figure, measured, against, f"{ratio:.2f}", f"<={bound:g}", ratio <= bound)


def seconds_of(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return how long a piece of work takes, by wall clock or another."""
    began = clock()
    work()
    return clock() - began


def median_seconds(
    works: tuple[Callable[[], object], ...],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Return the median time of each work, in turn, so that a busy moment meets them all."""
    times = [[seconds_of(work, clock) for work in works] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def milliseconds(seconds: float) -> str:
    """Write a duration as people compare it."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def machine() -> str:
    """Return what the figures depend on, and whether something else was running."""
    busy = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, Linux {platform.release()}; load before: {busy:.1f}"
        + (" - other programs are running, figures may be off" if busy > 1 else "")
    )
