"""A full check of ten thousand products, and of a hundred thousand, by the daemon as a whole."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scripts.benchmarks.figures import Row, at_most
from scripts.benchmarks.processes import (
    Daemon,
    daemon,
    simulator,
    some_products,
    write_home,
)

FEW, MANY = 10_000, 100_000
_MOST_TIME = 1.5
_MOST_MEMORY_MB = 200
_DAY_MS = 86_400_000
_TOKENS_A_DAY = 20 * 1440  # of Keepa's smallest usual plan; a product costs one
# So many different products that the simulator does not set the pace, and no more.
_SIMULATOR = ("--refill-rate", "0", "--distinct", "1000")
# A day's changes: about what any check brings but the first.
_PRICES = 'lookback = "1d"'


class Check(NamedTuple):
    """What a full check took."""

    products: int
    wall_s: float
    cpu_s: float
    peak_mb: float

    @property
    def each_ms(self) -> float:
        """The time per product."""
        return self.wall_s * 1000 / self.products

    @property
    def each_cpu_ms(self) -> float:
        """The processor time per product."""
        return self.cpu_s * 1000 / self.products


def measure() -> Iterator[Row]:
    """Check few and many products, each by a new daemon with an empty store."""
    with checked(FEW) as (_, few):
        yield Row(
            f"full check of {few.products:,} products",
            f"{few.products / few.wall_s:,.0f} products/s",
            f"{few.each_cpu_ms:.2f} ms CPU a product",
        )
        yield Row("  peak memory", f"{few.peak_mb:.0f} MB")
    with checked(MANY) as (_, many):
        yield at_most(
            f"full check of {many.products:,}: time a product",
            f"{many.each_ms:.2f} ms, CPU {many.each_cpu_ms:.2f} ms",
            f"{few.each_ms:.2f} ms at {few.products:,}",
            many.each_ms / few.each_ms,
            _MOST_TIME,
        )
        more_mb = many.peak_mb - few.peak_mb
        yield at_most(
            "  peak memory on top",
            f"{many.peak_mb:.0f} MB, {more_mb:+.0f} MB",
            f"{_MOST_MEMORY_MB} MB",
            more_mb / _MOST_MEMORY_MB,
            1,
        )
        yield Row(
            "  checks a day that fill one core",
            f"{_DAY_MS / many.each_cpu_ms:,.0f}",
            f"tokens a day at 20 a minute {_TOKENS_A_DAY:,}",
            f"{_DAY_MS / many.each_cpu_ms / _TOKENS_A_DAY:,.0f}",
        )


@contextmanager
def checked(products: int) -> Iterator[tuple[Daemon, Check]]:
    """Let a daemon check so many products for the first time; yield it with what that took."""
    with being_checked(products) as running:
        began, cpu_before_s = time.perf_counter(), running.cpu_s()
        running.wait_checked(products)
        wall_s, cpu_s = time.perf_counter() - began, running.cpu_s() - cpu_before_s
        yield running, Check(products, wall_s, cpu_s, running.memory_mb("VmHWM"))


@contextmanager
def being_checked(products: int) -> Iterator[Daemon]:
    """Run a daemon that has never checked any of so many products."""
    with (
        tempfile.TemporaryDirectory(prefix="pricecheck-bench-") as directory,
        simulator(*_SIMULATOR) as url,
    ):
        home = Path(directory)
        write_home(home, url=url, watched=some_products(products), more=_PRICES)
        with daemon(home) as running:
            yield running
