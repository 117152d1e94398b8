"""The figures that the planner has set itself: tables, each bound beside its figure, a plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from scripts.planner_bench import daemon, speed, worlds
from scripts.planner_bench.jobs import (
    FOLLOWED,
    KNOWN,
    LIMIT,
    OPTIMUM,
    OURS,
    SALE,
    SPOILT,
    TOLD,
    UNFOLLOWED,
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
SALES: Final = ("sale everywhere", "sale in one marketplace")
SALE_POLICIES: Final = ("round robin", KNOWN, OURS, TOLD)
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
        for policy in (OPTIMUM, KNOWN, WRONG, LIMIT, FOLLOWED, UNFOLLOWED)
    ]
    jobs += [
        Job("long", budget, policy, seed, worlds.LONG)
        for seed in seeds
        for budget in BUDGETS
        for policy in (OURS, SPOILT)
    ]
    jobs += [
        Job("weights", budget, policy, seed)
        for seed in seeds
        for budget in BUDGETS
        for policy in ("round robin", OURS)
    ]
    jobs += [
        Job(kind, budget, policy, seed, SALE)
        for seed in seeds
        for kind in SALES
        for budget in BUDGETS
        for policy in SALE_POLICIES
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
    for kind in SALES:
        for budget in BUDGETS:
            scores = {name: of(kind, budget, name) for name in SALE_POLICIES}
            _table(say, f"{kind}, that day and the next, {budget:,.0f} checks a day", scores)
    for budget in BUDGETS:
        bounds += _special(budget, of)
        bounds += _robust(budget, of)
        bounds += _sale(budget, of)
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


def _robust(budget: float, of: Callable[..., Score]) -> Iterator[Bound]:
    """Bound what it costs to go by rates that are wrong by a factor of 4, up or down at random.

    With few products changing between two checks, a plan for d' in place of the true d waits
    in proportion to d'^(-1/3), and the age grows by E[f^(1/3)]^2 E[f^(-2/3)] for f = d'/d: that
    is 1.79 for f = 4 or 1/4, less where more changes between checks. No planner that goes on
    believing such rates can do better than the plan that is best for them; so its bound is that
    plan by formula, and a little for running it. A planner that learns is to be within 5 % of one
    that never was wrong, as soon as it has watched for a half-life of its memory (`worlds.LONG`):
    a learner that knew nothing at all before would then be within 5 % of the optimum, by formula.
    """
    at = f"{budget:,.0f} a day"
    best, limit = of("poisson", budget, OPTIMUM), of("poisson", budget, LIMIT)
    wrong, known = of("poisson", budget, WRONG), of("poisson", budget, KNOWN)
    spoilt, ours = of("long", budget, SPOILT), of("long", budget, OURS)
    least = limit.age / best.age
    yield Bound(f"rates wrong by 4 for ever, {at}: the formula's own age by the best", least, None)
    yield Bound(
        f"rates wrong by 4 for ever, {at}: age by that with true rates",
        wrong.age / known.age,
        1.02 * least,
    )
    yield Bound(
        f"rates wrong by 4 at first, after 30 days, {at}: age by ours", spoilt.age / ours.age, 1.05
    )


def _sale(budget: float, of: Callable[..., Score]) -> Iterator[Bound]:
    """Bound what noticing a day brings on which prices change ten times as often.

    Where that is so of all products, the best plan stays nearly the same, for the waits depend
    on how the rates compare: by formula little is lost by not following, even of a sale that
    never ends. Where it is one marketplace of two, checks are better spent there, and the
    control, which knows every usual rate and follows nothing, has to be beaten: where a round
    takes hours. Where it takes five days, the sale is over before a plan could change much.
    """
    at = f"{budget:,.0f} a day"
    followed, not_ = of("poisson", budget, FOLLOWED), of("poisson", budget, UNFOLLOWED)
    lost = not_.age / followed.age
    yield Bound(f"sale everywhere, {at}: by formula, what not following costs", lost, None)
    for kind in SALES:
        scores = {name: of(kind, budget, name) for name in SALE_POLICIES}
        ours = scores[OURS].age
        can_gain = kind == SALES[1] and budget > _PRODUCTS
        most = 0.95 if can_gain else 1.03
        yield Bound(f"{kind}, {at}: age by round robin's", ours / scores["round robin"].age, 1.0)
        yield Bound(f"{kind}, {at}: age by the control's", ours / scores[KNOWN].age, most)
        yield Bound(f"{kind}, {at}: age by that of one told of it", ours / scores[TOLD].age, 1.05)


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
    yield Bound("us a pick at 1,000,000 products", last.pick_us, None)
    yield Bound(
        "ms for a new price and all lines in order, 1,000,000 products", last.reprice_ms, None
    )
    yield Bound("s to plan anew from what is stored, 1,000,000 products", last.start_s, None)
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
