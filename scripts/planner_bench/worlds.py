"""What changes when: made-up watchlists of known rates, and recorded histories cut into some.

Times are days from the start of the run; the history that is known then lies before 0.
"""

from __future__ import annotations

import itertools
import math
import random
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from pricecheck.keepa import wire
from pricecheck.keepa.tables import PRICES

HISTORY: Final = 90.0
WARM_UP: Final = 5.0
LENGTH: Final = 35.0
LONG: Final = (30.0, 40.0)
"""The window of a run that has a half-life of the learner's memory for its warm-up."""
SALE: Final = (5.0, 6.0)

MEDIAN_RATE: Final = 0.25
SIGMA: Final = 1.5

SALE_FACTOR: Final = 10
DOMAINS: Final = ("DE", "UK")
_NIGHT: Final = 0.9
_CLUSTER: Final = (2, 6)
_HOUR: Final = 1 / 24
_DAY_MINUTES: Final = 1440
_RECORDED_STEP: Final = 5.0
"""A recorded history makes a product of every stretch that begins so many days after another."""


class World(NamedTuple):
    """The products of one run: each one's true rate, weight, and the times of its changes.

    The products are of two marketplaces, one by one.
    """

    rates: array[float]
    weights: array[float]
    changes: list[array[float]]

    def domain(self, i: int) -> str:
        """Return the marketplace of a product."""
        return DOMAINS[i % len(DOMAINS)]


def make(kind: str, count: int, seed: int) -> World:
    """Make up a world: one of `_KINDS`; a run of `long` is as long as two more half-lives."""
    rng = random.Random(f"{kind} {seed}")
    rates = array("d", (rng.lognormvariate(math.log(MEDIAN_RATE), SIGMA) for _ in range(count)))
    weights = array("d", [1.0]) * count
    if kind == "weights":
        for i in range(0, count, 100):
            weights[i] = 10.0
    draw = _KINDS[kind]
    return World(rates, weights, [draw[i % len(draw)](rate, rng) for i, rate in enumerate(rates)])


def on_sale(kind: str) -> list[str]:
    """Return the marketplaces that have a sales day in such a world."""
    drawn = _KINDS[kind]
    return [name for i, name in enumerate(DOMAINS) if drawn[i % len(drawn)] is _sale]


def _poisson(rate: float, rng: random.Random) -> array[float]:
    return array("d", _arrivals(rate, -HISTORY, LENGTH, rng))


def _long(rate: float, rng: random.Random) -> array[float]:
    return array("d", _arrivals(rate, -HISTORY, LONG[1], rng))


def _bursts(rate: float, rng: random.Random) -> array[float]:
    """Clusters of about four changes within hours, as often as makes the rate."""
    least, most = _CLUSTER
    times = []
    for begin in _arrivals(rate * 2 / (least + most), -HISTORY, LENGTH, rng):
        at = begin
        for _ in range(rng.randint(least, most)):
            times.append(at)
            at += rng.expovariate(1 / _HOUR)
    return array("d", sorted(time for time in times if time < LENGTH))


def _day_and_night(rate: float, rng: random.Random) -> array[float]:
    """By day nearly twice as many as on average, by night nearly none."""
    peak = rate * (1 + _NIGHT)
    return array(
        "d",
        (
            time
            for time in _arrivals(peak, -HISTORY, LENGTH, rng)
            if rng.random() * (1 + _NIGHT) < 1 + _NIGHT * math.sin(2 * math.pi * time)
        ),
    )


def _sale(rate: float, rng: random.Random) -> array[float]:
    """One day in the middle on which the product changes ten times as often."""
    times = _arrivals(rate, -HISTORY, LENGTH, rng)
    times += _arrivals(rate * (SALE_FACTOR - 1), *SALE, rng)
    return array("d", sorted(times))


_KINDS: Final[dict[str, tuple[Callable[[float, random.Random], array[float]], ...]]] = {
    "poisson": (_poisson,),
    "weights": (_poisson,),
    "bursts": (_bursts,),
    "day and night": (_day_and_night,),
    "sale everywhere": (_sale,),
    "sale in one marketplace": (_poisson, _sale),
    "long": (_long,),
}
"""How changes come, marketplace by marketplace."""


def _arrivals(rate: float, begin: float, end: float, rng: random.Random) -> list[float]:
    times = []
    at = begin + rng.expovariate(rate)
    while at < end:
        times.append(at)
        at += rng.expovariate(rate)
    return times


def recorded(folder: Path) -> World | None:
    """Cut every recorded price history into stretches, each as if of a product of its own.

    None where there is no recording. The rate is that of the whole stretch.
    """
    changes = []
    for file in sorted(folder.glob("*.json")):
        for product in wire.products(wire.decode(file.read_bytes()))[0]:
            for series in PRICES:
                changes += _stretches(wire.points(product, series))
    if not changes:
        return None
    rates = array("d", (max(len(times), 0.5) / (HISTORY + LENGTH) for times in changes))
    return World(rates, array("d", [1.0]) * len(changes), changes)


def _stretches(points: list[wire.Point]) -> list[array[float]]:
    minutes = [
        point.minute for before, point in itertools.pairwise(points) if before[1:] != point[1:]
    ]
    if not minutes:
        return []
    found = []
    begin = points[0].minute / _DAY_MINUTES
    end = minutes[-1] / _DAY_MINUTES
    while begin + HISTORY + LENGTH <= end:
        times = (minute / _DAY_MINUTES - begin - HISTORY for minute in minutes)
        found.append(array("d", (time for time in times if -HISTORY <= time < LENGTH)))
        begin += _RECORDED_STEP
    return found
