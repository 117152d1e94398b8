"""How a figure is printed: a row of one table, with its bound and whether it was kept."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
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
    if len(padded[0]) > _WIDTHS[0]:
        padded[0] = f"{cells[0]}\n{'':{_WIDTHS[0]}}"
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
    """Return what the figures depend on, a line each, and whether something else was running."""
    busy = os.getloadavg()[0]
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{name} {version(name)}" for name in ("confluent-kafka", "elasticsearch"))
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory_gb:.0f} GB, Linux {platform.release()}\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {versions}\n"
        f"{datetime.now(UTC):%Y-%m-%d}, commit {_commit()}, load before: {busy:.1f}"
        + (" - other programs are running, figures may be off" if busy > 1 else "")
    )


def _processor() -> str:
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return f"{platform.machine()}, {names[0]}" if names else platform.machine()


def _commit() -> str:
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"
