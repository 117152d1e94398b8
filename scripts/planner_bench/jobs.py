"""What is run: each job is one policy in one world, small enough to spread over processors."""

from __future__ import annotations

import math
import os
import random
from array import array
from collections.abc import Callable, Collection
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from pricecheck.age import Terms, due_wait, outlook, price_for
from pricecheck.rhythm import Rhythm
from pricecheck.rush import Rush
from scripts.planner_bench import worlds
from scripts.planner_bench.policies import POLICIES, AgeIndex, RoundRobin, minute
from scripts.planner_bench.run import WHOLE, Policy, Score, run
from scripts.planner_bench.worlds import World

PRODUCTS: Final = 10_000
OURS: Final = "age index, learned"
KNOWN: Final = "age index, rates known"
WRONG: Final = "age index, rates wrong by 4"
SPOILT: Final = "age index, rates wrong by 4 at first"
FOLLOWED: Final = "by formula, a sale for ever, followed"
UNFOLLOWED: Final = "by formula, a sale for ever, not followed"
TOLD: Final = "age index, told of the sale"
OPTIMUM: Final = "continuous optimum, rates known"
LIMIT: Final = "the same, rates wrong by 4"
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
    rates = list(world.rates)
    if job.policy == OPTIMUM:
        return _by_formula(world, job.budget, rates)
    if job.policy == LIMIT:
        return _by_formula(world, job.budget, _wrong(rates, job.seed))
    if job.policy == FOLLOWED:
        return _by_formula(
            _sped_up(world), job.budget, [rate * worlds.SALE_FACTOR for rate in rates]
        )
    if job.policy == UNFOLLOWED:
        return _by_formula(_sped_up(world), job.budget, rates)
    return run(_policy(job, world), world, job.budget, job.window)


def _policy(job: Job, world: World) -> Policy:
    rates = list(world.rates)
    made: dict[str, Callable[[], Policy]] = {
        KNOWN: lambda: AgeIndex(world, job.budget, rates=rates),
        WRONG: lambda: AgeIndex(world, job.budget, rates=_wrong(rates, job.seed)),
        SPOILT: lambda: AgeIndex(world, job.budget, spoil=_spoil(job.seed)),
        TOLD: lambda: _Told(world, job.budget, worlds.on_sale(job.world)),
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


class _Told(AgeIndex):
    """Knows all rates, and of the sale as soon as it begins and ends: how much there is to gain."""

    def __init__(self, world: World, budget: float, on_sale: Collection[str]) -> None:
        super().__init__(world, budget, rates=list(world.rates))
        for domain in on_sale:
            self.planner._rushes[domain] = _Prophet()

    def seen(self, i: int, at: float, changes: list[float]) -> None:
        """Let the planner know what time it is."""
        self.rhythms[i] = msgspec.structs.replace(self.rhythms[i], minute=minute(at))


class _Prophet(Rush):
    def observe(self, rhythm: Rhythm, rate: float) -> None:
        began = minute(worlds.SALE[0])
        on_sale = began <= rhythm.minute < minute(worlds.SALE[1])
        self.factor = float(worlds.SALE_FACTOR) if on_sale else 1.0
        self.days = (rhythm.minute - began) / 1440 if on_sale else 0.0


def _by_formula(world: World, budget: float, believed: list[float]) -> Score:
    """Return what the best plan for the rates that are believed comes to with the true ones.

    By formula, of Poisson changes: nothing of a planner's own is in it.
    """
    classes = [
        (Terms(rate, weight), 1) for rate, weight in zip(believed, world.weights, strict=True)
    ]
    price = price_for(classes, budget)
    found = outlook(
        (Terms(rate, terms.weight), 1, due_wait(terms, price))
        for rate, (terms, _) in zip(world.rates, classes, strict=True)
    )
    nothing = math.nan
    return Score(
        found.right, 24 * found.age, 24 * found.delay, nothing, nothing, found.checks, nothing
    )


def _sped_up(world: World) -> World:
    return world._replace(rates=array("d", (rate * worlds.SALE_FACTOR for rate in world.rates)))


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
