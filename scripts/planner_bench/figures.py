"""The figures that the planner has set itself: tables, each bound beside its figure, a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from scripts.planner_bench import daemon, speed, worlds
from scripts.planner_bench.jobs import (
    KNOWN,
    MOMENTARY,
    OPTIMUM,
    OURS,
    SALE,
    SPOILT,
    WRONG,
    Job,
    mean,
    run_all,
    samples,
)
from scripts.planner_bench.policies import POLICIES
from scripts.planner_bench.run import Score

BUDGETS: Final = (1_920.0, 28_800.0)
KINDS: Final = ("poisson", "bursts", "day and night")
_SHARES_OF_ROUND: Final = {1_920.0: 0.9, 28_800.0: 0.65}
_PRODUCTS: Final = 10_000
_BAR: Final = 30
_LONGEST_BAR: Final = 60


class Bound(NamedTuple):
    """A figure beside what it should be at most."""

    name: str
    figure: float
    most: float | None  # None: told, not bounded

    @property
    def missed(self) -> bool:
        """Whether it is above."""
        return self.most is not None and not self.figure <= self.most

    def __str__(self) -> str:
        if self.most is None:
            return f"{self.name:<78} {self.figure:9.3f}"
        verdict = "MISSED" if self.missed else "ok"
        return f"{self.name:<78} {self.figure:9.3f}  at most {self.most:7.3f}  {verdict}"


Say = Callable[[str], None]
Found = dict[Job, Score]


def main_jobs(seeds: Iterable[int]) -> list[Job]:
    """Return all policies in all made-up worlds, and the special ones."""
    seeds = list(seeds)
    jobs = [
        Job(kind, budget, policy, seed)
        for seed in seeds
        for kind in KINDS
        for budget in BUDGETS
        for policy in POLICIES
    ]
    jobs += [
        Job("poisson", budget, policy, seed)
        for seed in seeds
        for budget in BUDGETS
        for policy in (OPTIMUM, KNOWN, WRONG, SPOILT)
    ]
    jobs += [
        Job("weights", budget, policy, seed)
        for seed in seeds
        for budget in BUDGETS
        for policy in ("round robin", OURS)
    ]
    jobs += [
        Job("sale", budget, policy, seed, SALE)
        for seed in seeds
        for budget in BUDGETS
        for policy in ("round robin", OURS, MOMENTARY)
    ]
    return jobs


def recorded_jobs() -> list[Job]:
    """Return the replays, with as many checks a product as the made-up worlds have; or none."""
    world = worlds.recorded(samples())
    if world is None:
        return []
    share = len(world.rates) / _PRODUCTS
    return [Job("recorded", budget * share, policy, 0) for budget in BUDGETS for policy in POLICIES]


def report(seeds: Iterable[int], say: Say, progress: Say) -> list[Bound]:
    """Run everything, say it table by table, and return all bounds."""
    seeds = list(seeds)
    bounds = list(_daemon(say, progress))
    replays = recorded_jobs()
    found = run_all(main_jobs(seeds) + replays, progress)

    def of(
        kind: str, budget: float, policy: str, window: tuple[float, float] | None = None
    ) -> Score:
        chosen = [
            score
            for job, score in found.items()
            if (job.world, job.budget, job.policy) == (kind, budget, policy)
        ]
        return mean(chosen)

    for kind in KINDS:
        for budget in BUDGETS:
            names = [*POLICIES, *([KNOWN, OPTIMUM] if kind == "poisson" else [])]
            scores = {name: of(kind, budget, name) for name in names}
            _table(say, f"{kind}, {budget:,.0f} checks a day, {len(seeds)} seeds", scores)
            bounds += _against_round_robin(f"{kind}, {budget:,.0f} a day", scores)
            if kind == "poisson":
                ours, best = scores[OURS].age, scores[OPTIMUM].age
                bounds.append(
                    Bound(f"age, {budget:,.0f} a day: by the optimum's", ours / best, 1.03)
                )
                share = ours / scores["round robin"].age
                most = _SHARES_OF_ROUND[budget]
                bounds.append(Bound(f"age, {budget:,.0f} a day: by round robin's", share, most))
    for budget in sorted({job.budget for job in replays}):
        scores = {name: of("recorded", budget, name) for name in POLICIES}
        _table(say, f"recorded histories, {budget:,.1f} checks a day", scores)
        bounds += _against_round_robin(f"recorded, {budget:,.1f} a day", scores)
    if not replays:
        say(f"\nno recorded histories in {samples()}: not replayed (KEEPA_SAMPLES names a folder)")
    for budget in BUDGETS:
        bounds += _special(budget, of)
    _plot(say, of)
    bounds += _speed(say)
    say("")
    for bound in bounds:
        say(str(bound))
    return bounds


def _table(say: Say, title: str, scores: dict[str, Score]) -> None:
    say(f"\n{title}")
    say(
        f"  {'':<32}{'right':>8}{'age h':>10}{'delay h':>10}{'95th pct':>10}{'caught':>8}"
        f"{'checks':>9}"
    )
    for name, score in scores.items():
        cells = [
            f"{score.right:8.3f}",
            f"{score.age:10.4g}",
            f"{score.delay:10.4g}",
            f"{score.late:10.4g}",
            f"{score.caught:8.3f}",
            f"{score.checks:9,.0f}",
        ]
        shown = ("" if cell.strip() == "nan" else cell.strip() for cell in cells)
        say(f"  {name:<32}" + "".join(f"{cell:>{len(cells[i])}}" for i, cell in enumerate(shown)))


def _against_round_robin(name: str, scores: dict[str, Score]) -> Iterator[Bound]:
    ours, theirs = scores[OURS], scores["round robin"]
    yield Bound(f"{name}: age by round robin's", ours.age / theirs.age, 1.0)
    yield Bound(f"{name}: mean delay by round robin's", ours.delay / theirs.delay, 1.0)
    yield Bound(f"{name}: 95th percentile by round robin's", ours.late / theirs.late, 1.0)


def _special(budget: float, of: Callable[..., Score]) -> Iterator[Bound]:
    at = f"{budget:,.0f} a day"
    heavy, round_ = of("weights", budget, OURS), of("weights", budget, "round robin")
    yield Bound(
        f"weights, {at}: age of the 1 % at weight 10 by round robin's",
        heavy.group_age / round_.group_age,
        None,
    )
    yield Bound(f"weights, {at}: age of all by round robin's", heavy.age / round_.age, None)
    wrong, known = of("poisson", budget, WRONG), of("poisson", budget, KNOWN)
    yield Bound(f"rates wrong by 4, {at}: age by that with true rates", wrong.age / known.age, 1.05)
    spoilt, ours = of("poisson", budget, SPOILT), of("poisson", budget, OURS)
    yield Bound(
        f"wrong by 4 at first, then learned, {at}: age by ours", spoilt.age / ours.age, None
    )
    sale, told = of("sale", budget, OURS), of("sale", budget, MOMENTARY)
    base = of("sale", budget, "round robin")
    yield Bound(f"sales day and the next, {at}: age by round robin's", sale.age / base.age, 1.0)
    yield Bound(f"sales day, {at}: age by that of one told of the sale", sale.age / told.age, 1.05)


def _daemon(say: Say, progress: Say) -> Iterator[Bound]:
    """Run the daemon first, while nothing else keeps the processors busy."""
    progress("the real daemon against the simulator, five minutes")
    real, simulated = daemon.measure()
    title = f"{daemon.PRODUCTS:,} products through the real daemon, {daemon.REFILL} tokens a minute"
    _table(say, title, {"the daemon": real, "the simulation": simulated})
    off = abs(real.age / simulated.age - 1)
    yield Bound("the daemon's age off the simulation's, share", off, 0.05)


def _speed(say: Say) -> Iterator[Bound]:
    costs = [speed.measure(size) for size in speed.SIZES]
    say("\nthe planner itself")
    say(
        f"  {'products':>10}{'us a pick':>11}{'in batches':>12}{'new price ms':>14}"
        f"{'start s':>9}{'bytes each':>12}"
    )
    for cost in costs:
        say(
            f"  {cost.size:>10,}{cost.pick_us:11.1f}{cost.batch_us:12.1f}{cost.reprice_ms:14.1f}"
            f"{cost.start_s:9.2f}{cost.bytes_each:12.0f}"
        )
    first, last = costs[0], costs[-1]
    logarithmic = math.log(last.size) / math.log(first.size)
    growth = last.pick_us / first.pick_us
    yield Bound("a pick at 1,000,000 products by one at 10,000 (logarithm)", growth, logarithmic)
    yield Bound("bytes a product, 1,000,000 products", last.bytes_each, 200)


def _plot(say: Say, of: Callable[..., Score]) -> None:
    """Draw age and mean delay of each policy as shares of round robin's."""
    for budget in BUDGETS:
        theirs = of("poisson", budget, "round robin")
        say(f"\nage (#) and mean delay (.) by round robin's, poisson, {budget:,.0f} checks a day")
        for name in (*POLICIES, KNOWN):
            score = of("poisson", budget, name)
            for label, share, mark in (
                (name, score.age / theirs.age, "#"),
                ("", score.delay / theirs.delay, "."),
            ):
                length = round(share * _BAR)
                bar = mark * min(length, _LONGEST_BAR) + ">" * (length > _LONGEST_BAR)
                say(f"  {label:<32}{bar} {share:.2f}")
