"""What is run: each job is one policy in one world, small enough to spread over processors."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pricecheck.age import Terms, due_wait, outlook, price_for
from pricecheck.rhythm import Rhythm
from scripts.planner_bench import worlds
from scripts.planner_bench.policies import POLICIES, AgeIndex, RoundRobin
from scripts.planner_bench.run import WHOLE, Policy, Score, run
from scripts.planner_bench.worlds import World

PRODUCTS: Final = 10_000
OURS: Final = "age index, learned"
KNOWN: Final = "age index, rates known"
WRONG: Final = "age index, rates wrong by 4"
SPOILT: Final = "age index, rates wrong by 4 at first"
MOMENTARY: Final = "age index, rates of the moment"
OPTIMUM: Final = "continuous optimum, rates known"
SALE: Final = (worlds.SALE[0], worlds.SALE[1] + 1)

_WRONG_FACTOR: Final = 4


class Job(NamedTuple):
    """One run: `world` is a kind of worlds.make, or `recorded`; `budget` in checks a day."""

    world: str
    budget: float
    policy: str
    seed: int
    window: tuple[float, float] = WHOLE


def samples() -> Path:
    """Return where recorded answers are, if there are any."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "keepa-samples"
    return Path(os.environ.get("KEEPA_SAMPLES", beside))


@lru_cache(maxsize=1)
def _world(kind: str, seed: int) -> World:
    if kind != "recorded":
        return worlds.make(kind, PRODUCTS, seed)
    found = worlds.recorded(samples())
    assert found is not None  # a job on recordings is made where there are some
    return found


def score(job: Job) -> Score:
    """Run a job."""
    world = _world(job.world, job.seed)
    if job.policy == OPTIMUM:
        return _optimum(world, job.budget)
    return run(_policy(job, world), world, job.budget, job.window)


def _policy(job: Job, world: World) -> Policy:
    rates = list(world.rates)
    made: dict[str, Callable[[], Policy]] = {
        KNOWN: lambda: AgeIndex(world, job.budget, rates=rates),
        WRONG: lambda: AgeIndex(world, job.budget, rates=_wrong(rates, job.seed)),
        SPOILT: lambda: AgeIndex(world, job.budget, spoil=_spoil(job.seed)),
        MOMENTARY: lambda: _Momentary(world, job.budget, rates=rates),
        "round robin": lambda: RoundRobin(world, job.budget),
    }
    if job.policy in made:
        return made[job.policy]()
    return POLICIES[job.policy](world, job.budget)


def _wrong(rates: list[float], seed: int) -> list[float]:
    rng = random.Random(seed)
    return [rate * rng.choice((_WRONG_FACTOR, 1 / _WRONG_FACTOR)) for rate in rates]


def _spoil(seed: int) -> Callable[[Rhythm], Rhythm]:
    """Return what makes a history seem to hold four times as many changes, or a fourth."""
    rng = random.Random(seed)

    def spoil(rhythm: Rhythm) -> Rhythm:
        factor = rng.choice((_WRONG_FACTOR, 1 / _WRONG_FACTOR))
        return msgspec.structs.replace(rhythm, changes=rhythm.changes * factor)

    return spoil


class _Momentary(AgeIndex):
    """Told on the day of the sale, at each check, that rates are ten times as high."""

    def seen(self, i: int, at: float, changes: list[float]) -> None:
        assert self._rates is not None
        factor = 10 if worlds.SALE[0] <= at < worlds.SALE[1] else 1
        self.rhythms[i] = self.certain(self._rates[i] * factor)


def _optimum(world: World, budget: float) -> Score:
    """Return what the best plan comes to, by formula, with the true rates of Poisson changes."""
    classes = [
        (Terms(rate, weight), 1) for rate, weight in zip(world.rates, world.weights, strict=True)
    ]
    price = price_for(classes, budget)
    found = outlook((terms, 1, due_wait(terms, price)) for terms, _ in classes)
    nothing = math.nan
    return Score(
        found.right, 24 * found.age, 24 * found.delay, nothing, nothing, found.checks, nothing
    )


def run_all(jobs: list[Job], say: Callable[[str], None]) -> dict[Job, Score]:
    """Run jobs on all processors; equal worlds come together."""
    ordered = sorted(jobs, key=lambda job: (job.world, job.seed, job.budget))
    found = {}
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for job, result in zip(ordered, pool.map(score, ordered), strict=True):
            found[job] = result
            say(f"{job.world}, {job.budget:,.0f} checks a day, seed {job.seed}: {job.policy}")
    return found


def mean(scores: list[Score]) -> Score:
    """Return the mean of several scores, figure by figure."""
    return Score(*(sum(column) / len(scores) for column in zip(*scores, strict=True)))
