"""What the planner itself costs: microseconds a pick, bytes a product, at growing sizes."""

from __future__ import annotations

import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from pricecheck.adaptive import AdaptivePlanner, Seen
from pricecheck.planner import Purse
from pricecheck.rhythm import Rhythm
from pricecheck.watchlist import Watch
from scripts.planner_bench.worlds import MEDIAN_RATE, SIGMA

SIZES: Final = (10_000, 100_000, 1_000_000)
_NOW: Final = 1_800_000_000_000
_MINUTE: Final = 8_000_000
_PICKS: Final = 50_000
_HOUR_MS: Final = 3_600_000
_DOMAINS: Final = ("DE", "UK", "FR", "IT", "ES")


class Cost(NamedTuple):
    """The figures at one size."""

    size: int
    pick_us: float  # one product picked, learned of and put back, one at a time
    batch_us: float  # a product, in batches of a hundred
    reprice_ms: float  # to solve for a new price and put all lines in order
    start_s: float  # to plan from what is stored
    bytes_each: float  # what the planner takes beside the watchlist


def measure(size: int) -> Cost:
    """Measure in a process of its own, so that memory is the planner's."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "scripts.planner_bench.speed", str(size)]
    printed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    return Cost(*json.loads(printed))


def _measure(size: int) -> Cost:
    rng = random.Random(1)
    watches = [Watch(f"B{i:09d}", _DOMAINS[i % 5], 1.0, None, 21_600) for i in range(size)]
    rates = [rng.lognormvariate(0, SIGMA) * MEDIAN_RATE for _ in range(1000)]
    span = size * _HOUR_MS // 1200

    def seen() -> Iterator[Seen]:
        for i, watch in enumerate(watches):
            rhythm = Rhythm(_MINUTE, rates[i % 1000] * 43, 43.0)
            yield Seen(watch.domain, watch.asin, _NOW - i * span // size, rhythm, None)

    gc.collect()
    before = _resident()
    began = time.perf_counter()
    planner = AdaptivePlanner(watches, seen())
    start_s = time.perf_counter() - began
    gc.collect()
    bytes_each = (_resident() - before) / size
    planner.steer(_NOW, Purse(1000, 1200, 20))
    planner.steer(_NOW, Purse(1e6, 1.2e6, 2e4))
    pick_us = _pick(planner, rates, 1, _PICKS)
    batch_us = _pick(planner, rates, 100, _PICKS)
    began = time.perf_counter()
    planner.steer(_NOW + 10 * _HOUR_MS, Purse(5e5, 1.2e6, 2e4))
    return Cost(size, pick_us, batch_us, 1000 * (time.perf_counter() - began), start_s, bytes_each)


def _pick(planner: AdaptivePlanner, rates: list[float], most: int, count: int) -> float:
    now = _NOW + _HOUR_MS
    picked = 0
    spent: list[float] = []
    clock = time.process_time
    while picked < count:
        now += 60_000 * most // 20
        planner.steer(now, Purse(1e6, 1.2e6, 2e4))
        for _ in range(100):
            began = clock()
            batch = planner.pick(now, most)
            if batch is None:
                break
            for watch in batch.watches:
                planner.learn(watch, Rhythm(_MINUTE, rates[picked % 1000] * 43, 43.0), None)
                picked += 1
            planner.done(batch.watches, now)
            spent.append((clock() - began) / len(batch.watches))
    # The median, because other processes push the planner out of the caches now and then.
    return 1e6 * median(spent)


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]))))
