"""How a daemon grows with the products that it watches: memory, start, work, disk.

All of three sizes are known of old, as after the first days; a million new ones are measured too,
for they take most. What grows is fitted over the three sizes: an exponent of 0 is a cost that
does not grow with the products, 1 one that grows as they do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from pricecheck.collect.products import Known, remember
from pricecheck.keepa.time import from_unix_ms
from pricecheck.outbox import Commit, Outbox, ProductState
from pricecheck.rhythm import Rhythm
from pricecheck.status import ask
from scripts.benchmarks.figures import Row, at_most
from scripts.benchmarks.processes import (
    OUTBOX,
    Daemon,
    daemon,
    simulator,
    some_products,
    write_home,
)

SIZES: Final = (10_000, 100_000, 1_000_000)
_CHECKED: Final = 5_000
_MOST_MB: Final = 300
_DISTINCT: Final = 1000
_AT_ONCE: Final = 10_000
_STARTS: Final = 3


class Size(NamedTuple):
    """What a daemon takes that watches so many products."""

    products: int
    ready_s: float  # from its start to READY, the best of three starts where products are known
    planned_s: float  # to the first check planned, likewise
    ready_mb: float
    peak_mb: float  # of start and 5,000 checks
    check_ms: float  # processor time of one of these
    disk_mb: float  # before them


def measure() -> Iterator[Row]:
    """Watch products known of old in three sizes, then as many new ones as the largest has."""
    with simulator("--refill-rate", "0", "--distinct", str(_DISTINCT)) as url:
        sizes = []
        for products in SIZES:
            sizes.append(_watch(url, products, known=True))
            yield from _rows(sizes[-1], "known")
        new = _watch(url, SIZES[-1], known=False)
        yield from _rows(new, "new")
    yield from _fits(sizes)


def _rows(size: Size, what: str) -> Iterator[Row]:
    products = f"{size.products:,} {what} products"
    yield Row(
        f"{products}: start",
        f"READY {size.ready_s:.2f} s",
        f"first check planned {size.planned_s:.2f} s",
    )
    yield Row("  a check", f"{size.check_ms:.2f} ms CPU", f"disk {size.disk_mb:.1f} MB before")
    yield at_most(
        "  peak memory",
        f"{size.peak_mb:.0f} MB, READY {size.ready_mb:.0f}",
        f"{_MOST_MB} MB",
        size.peak_mb / _MOST_MB,
        1,
    )


def _fits(sizes: Sequence[Size]) -> Iterator[Row]:
    numbers = [size.products for size in sizes]
    span = " to ".join(f"{number:,}" for number in (numbers[0], numbers[-1]))
    for figure, megabytes in (
        ("memory = a + b x products, when READY", [size.ready_mb for size in sizes]),
        ("  the same of its peak", [size.peak_mb for size in sizes]),
    ):
        memory = statistics.linear_regression(numbers, megabytes)
        yield Row(figure, f"{memory.intercept:.0f} MB + {memory.slope * 1e6:.0f} B each", span)
    disk = statistics.linear_regression(numbers, [size.disk_mb for size in sizes])
    yield Row("  the same of the disk, without records", f"{disk.slope * 1e6:.0f} B each", span)
    for figure, seconds in (
        ("READY", [size.ready_s for size in sizes]),
        ("first check planned", [size.planned_s for size in sizes]),
    ):
        # A start's fixed part would hide the growth: it is what is added that counts.
        added = _exponent(numbers[1:], [each - seconds[0] for each in seconds[1:]])
        yield at_most(f"  exponent of {figure}", f"products^{added:.2f}", "linear", added, 1.2)
    check = _exponent(numbers, [size.check_ms for size in sizes])
    yield at_most("  exponent of a check's CPU", f"products^{check:.2f}", "1/4", check * 4, 1)


def _exponent(numbers: Sequence[int], costs: Sequence[float]) -> float:
    """Return k where cost ~ number^k, by least squares of the logarithms."""
    return statistics.linear_regression(
        [log(number) for number in numbers], [log(cost) for cost in costs]
    ).slope


def _watch(url: str, products: int, *, known: bool) -> Size:
    with TemporaryDirectory(prefix="pricecheck-bench-") as name:
        home = Path(name)
        watched = some_products(products)
        write_home(home, url=url, watched=watched)
        if known:
            know_all(home, watched)
        outbox = home / OUTBOX
        disk_mb = outbox.stat().st_size / 1e6 if known else 0.0
        # A tenth of a second, which a start may lose to anything, would bend the fits.
        starts = [_start(home) for _ in range(_STARTS - 1)] if known else []
        began = time.perf_counter()
        with daemon(home) as running:
            ready_mb = running.memory_mb("VmRSS")
            wait_planned(running)
            starts.append((running.ready_s, time.perf_counter() - began))
            cpu_before_s = running.cpu_s()
            while (checked := ask(home / "state").totals.products) < _CHECKED:
                time.sleep(0.05)
            check_ms = (running.cpu_s() - cpu_before_s) * 1000 / checked
            peak_mb = running.memory_mb("VmHWM")
        ready_s, planned_s = map(min, zip(*starts, strict=True))
        return Size(products, ready_s, planned_s, ready_mb, peak_mb, check_ms, disk_mb)


def _start(home: Path) -> tuple[float, float]:
    """Start a daemon, and end it; return the seconds to READY, and to the first check planned."""
    began = time.perf_counter()
    with daemon(home) as running:
        wait_planned(running)
        return running.ready_s, time.perf_counter() - began


def wait_planned(running: Daemon) -> None:
    """Wait until a daemon knows what to check first."""
    while ask(running.home / "state").watchlist.next_due_s is None:
        time.sleep(0.01)


def know_all(home: Path, products: Sequence[tuple[str, str]]) -> None:
    """Write down a check of every product in the last day, each with a rhythm of its own."""
    now_ms = time.time_ns() // 1_000_000
    bodies = [
        remember(
            Known(
                since=1,
                last_update=from_unix_ms(now_ms) - 1440,
                current_price=4_999,
                rhythm=Rhythm(from_unix_ms(now_ms) - 1440, k / 30, 43.0, 7_000_000, k / 99, 11.0),
            )
        )
        for k in range(1, _DISTINCT + 1)
    ]
    apart_ms = 80_000_000 // len(products)
    with closing(Outbox.open(home / OUTBOX)) as outbox:
        for begin in range(0, len(products), _AT_ONCE):
            states = [
                ProductState(domain, asin, now_ms - (begin + k) * apart_ms, bodies[k % _DISTINCT])
                for k, (domain, asin) in enumerate(products[begin : begin + _AT_ONCE])
            ]
            outbox.commit(Commit(states=tuple(states)))
