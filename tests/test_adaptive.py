"""The adaptive planner against the promises it makes, over any sequence of picks and answers."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pricecheck.adaptive import AdaptivePlanner, Seen
from pricecheck.age import Terms, due_wait, price_for, worth
from pricecheck.extras import PLAIN, Extras
from pricecheck.planner import Batch, Purse
from pricecheck.rhythm import Rhythm
from pricecheck.watchlist import Watch

NOW = 1_800_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SIX_HOURS_S = 21_600
YEAR_S = 365 * 86_400
OFFERS = Extras(offers=20)
PLENTY = Purse(tokens=600, capacity=1200, refill=20)


def make_watch(
    number: int,
    domain: str = "DE",
    *,
    weight: float = 1.0,
    every_s: int = SIX_HOURS_S,
    extras: Extras = PLAIN,
) -> Watch:
    return Watch(f"B{number:09d}", domain, weight, None, every_s, extras)


def seen(watch: Watch, at: int, rate: float = 0.5, price: int | None = None) -> Seen:
    """A product with so long a history that its rate is certain."""
    return Seen(watch.domain, watch.asin, at, rhythm(rate), price)


def rhythm(rate: float) -> Rhythm:
    return Rhythm(8_000_000, rate * 1e6, 1e6)


class Life:
    """A planner beside a bucket, minute after minute."""

    def __init__(self, planner: AdaptivePlanner, *, refill: float = 20.0, cost: float = 1.0):
        self.planner = planner
        self.refill, self.cost, self.others = refill, cost, 0.0
        self.tokens = refill * 30
        self.now = NOW
        self.lost = 0.0
        self.learned: Callable[[Watch], Rhythm] | None = None
        self.checks: defaultdict[Watch, list[int]] = defaultdict(list)
        self.tokens_seen: list[float] = []

    def live(self, minutes: int, *, keep: bool = True) -> None:
        """Let minutes pass, each with a refill and what the planner picks."""
        for _ in range(minutes):
            self.now += MINUTE
            capacity = self.refill * 60
            self.lost += max(0.0, self.tokens + self.refill - capacity)
            self.tokens = min(capacity, self.tokens + self.refill - self.others)
            purse = Purse(self.tokens, capacity, self.refill, self.others, {PLAIN: self.cost})
            self.planner.steer(self.now, purse)
            while batch := self.planner.pick(self.now, 100):
                self.tokens -= self.cost * len(batch.watches)
                for watch in batch.watches:
                    self.checks[watch].append(self.now)
                    if self.learned:
                        self.planner.learn(watch, self.learned(watch), None)
                self.planner.done(batch.watches, self.now)
            self.tokens_seen.append(self.tokens)

    def forget(self) -> None:
        """Begin to count anew, after a warm-up."""
        self.checks.clear()
        self.tokens_seen.clear()
        self.lost = 0.0


def aged(watches: list[Watch], rates: list[float], spread_ms: int = 6 * HOUR) -> list[Seen]:
    """What is known of products whose last checks are evenly spread."""
    step = spread_ms // len(watches)
    return [
        seen(watch, NOW - i * step, rate)
        for i, (watch, rate) in enumerate(zip(watches, rates, strict=True))
    ]


def spread_rates(count: int) -> list[float]:
    rng = random.Random(5)
    return [rng.lognormvariate(math.log(0.25), 1.5) for _ in range(count)]


def test_an_empty_watchlist_has_nothing_due() -> None:
    """Without products there is nothing to pick and nothing to wait for."""
    planner = AdaptivePlanner(())

    planner.steer(NOW, PLENTY)

    assert planner.pick(NOW, 100) is None
    assert planner.due_in(NOW) is None
    assert planner.statistics(NOW).size == 0
    assert planner.statistics(NOW).next_due_ms is None


def test_new_products_are_due_at_once_in_the_order_of_the_file() -> None:
    """What was never checked is picked first come first served, as a first check."""
    watches = [make_watch(number) for number in (5, 3, 4)]
    planner = AdaptivePlanner(watches)
    planner.steer(NOW, PLENTY)

    assert planner.due_in(NOW) == 0
    assert planner.pick(NOW, 2) == Batch("DE", tuple(watches[:2]), first=True)
    assert planner.pick(NOW, 2) == Batch("DE", tuple(watches[2:]), first=True)
    assert planner.pick(NOW, 2) is None


def test_what_falls_due_soon_goes_along_and_begins_nothing() -> None:
    """A batch begins when a product is due, not before."""
    watches = [make_watch(1, every_s=3600), make_watch(2, every_s=3600)]
    known = [seen(watches[0], NOW - HOUR), seen(watches[1], NOW - HOUR + 30_000)]
    alone, along = (AdaptivePlanner(watches, known, min_every_s=3600) for _ in range(2))

    for ahead_ms, planner, size in ((0, alone, 1), (30_000, along, 2)):
        planner.steer(NOW, PLENTY)
        assert planner.pick(NOW - 1, 10, ahead_ms=ahead_ms) is None
        batch = planner.pick(NOW, 10, ahead_ms=ahead_ms)
        assert batch is not None
        assert len(batch.watches) == size


def test_what_the_store_knows_and_nobody_watches_is_passed_over() -> None:
    """A product taken off the watchlist is not checked because it was once."""
    planner = AdaptivePlanner([make_watch(1)], [seen(make_watch(2), NOW - DAY)])

    assert planner.statistics(NOW).size == 1
    assert planner.classes() == []


def test_the_product_most_worth_its_check_goes_first() -> None:
    """Of equally long waits the faster changing goes first, and the heavier of equals."""
    slow, fast = make_watch(1, every_s=YEAR_S), make_watch(2, every_s=YEAR_S)
    heavy = make_watch(3, weight=10, every_s=YEAR_S)
    rates = {slow: 0.1, fast: 3.0, heavy: 0.1}
    planner = AdaptivePlanner(list(rates), [seen(w, NOW - DAY, rate) for w, rate in rates.items()])
    planner.steer(NOW, Purse(1200, 1200, 20))

    worths = {w: worth(1.0, rate, w.weight) for w, rate in rates.items()}
    picked: list[Watch] = []
    for _ in rates:
        batch = planner.pick(NOW, 1)
        assert batch is not None
        picked += batch.watches

    assert picked == sorted(rates, key=lambda w: -worths[w])


def test_long_run_waits_are_those_of_the_optimum() -> None:
    """A thousand products of all rates each wait about as long as the best plan has them wait."""
    watches = [make_watch(number, every_s=YEAR_S) for number in range(1000)]
    rates = spread_rates(1000)
    classes = [(Terms(rate), 1) for rate in rates]
    price = price_for(classes, 2 * 1440.0)
    best = [due_wait(terms, price) for terms, _ in classes]
    life = Life(AdaptivePlanner(watches, aged(watches, rates, 8 * HOUR)), refill=2)
    life.live(1440)
    life.forget()

    life.live(4 * 1440)

    checked = [len(life.checks[watch]) for watch in watches]
    assert sum(checked) == pytest.approx(4 * 2 * 1440, rel=0.02)
    for share in (0.0, 0.25, 0.5, 0.75):
        some = sorted(range(1000), key=rates.__getitem__)[int(share * 1000) :][:250]
        planned = sum(4 / best[i] for i in some)
        assert sum(checked[i] for i in some) == pytest.approx(planned, rel=0.06)


@pytest.mark.parametrize(("count", "cost"), [(200, 1.0), (3000, 1.0), (3000, 15.0)])
def test_the_bucket_neither_overflows_nor_runs_dry(count: int, cost: float) -> None:
    """From any start to the end of the day no token expires, and the reserve is left alone."""
    watches = [make_watch(number, every_s=YEAR_S) for number in range(count)]
    life = Life(AdaptivePlanner(watches, aged(watches, spread_rates(count), HOUR)), cost=cost)

    life.live(1440)

    assert life.lost == 0
    assert min(life.tokens_seen) >= 0.1 * 1200
    assert sum(map(len, life.checks.values())) * cost >= 0.95 * 20 * 1440


def test_tokens_that_nobody_could_use_are_let_go() -> None:
    """Three products at a floor of ten minutes leave most of a plan unspent."""
    watches = [make_watch(number) for number in range(3)]
    life = Life(AdaptivePlanner(watches, min_every_s=600))

    life.live(1440)

    for times in life.checks.values():
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert set(gaps) == {600_000}


def test_ceilings_hold_where_the_budget_allows() -> None:
    """Products that hardly ever change are still checked every six hours, if there are tokens."""
    watches = [make_watch(number) for number in range(1000)]
    rates = [0.001] * 500 + [50.0] * 500
    life = Life(AdaptivePlanner(watches, aged(watches, rates)), refill=5)

    life.live(2 * 1440)

    for times in life.checks.values():
        gaps = [b - a for a, b in zip([NOW, *times], times, strict=False)]
        assert max(gaps) <= 6 * HOUR + 20 * MINUTE
    assert life.planner.settlement.shortfall == 0


def test_short_of_tokens_the_heavy_keep_their_ceilings() -> None:
    """A tenth of the budget that all ceilings need holds those of the heaviest; nobody starves."""
    heavy = [make_watch(number, weight=16) for number in range(10)]
    light = [make_watch(number) for number in range(100, 1090)]
    watches = heavy + light
    life = Life(AdaptivePlanner(watches, aged(watches, [0.2] * 1000, 2 * DAY)), refill=0.3)

    life.live(10 * 1440)

    assert life.planner.settlement.shortfall == pytest.approx(4000 - 432)
    for watch in heavy:
        times = life.checks[watch]
        assert max(b - a for a, b in itertools.pairwise(times)) <= 7 * HOUR
    assert all(life.checks[watch] for watch in light)


def test_a_change_of_plan_is_followed_within_a_minute() -> None:
    """When the refill triples, the price of the next pick is another one."""
    watches = [make_watch(number, every_s=YEAR_S) for number in range(500)]
    life = Life(AdaptivePlanner(watches, aged(watches, spread_rates(500), 8 * HOUR)), refill=2)
    life.live(600)
    before = life.planner.settlement

    life.refill = 6.0
    life.live(1)

    after = life.planner.settlement
    assert after.budget == 3 * before.budget
    assert after.price < before.price / 5


def test_what_deals_and_best_sellers_take_is_not_planned_with() -> None:
    """The budget is the refill less what the others spend, and so are the checks."""
    watches = [make_watch(number, every_s=YEAR_S) for number in range(500)]
    life = Life(AdaptivePlanner(watches, aged(watches, spread_rates(500), 8 * HOUR)), refill=2)
    life.others = 1.0
    life.live(600)
    life.forget()

    life.live(1440)

    assert life.planner.settlement.budget == 1440
    assert sum(map(len, life.checks.values())) == pytest.approx(1440, rel=0.05)


def test_below_the_reserve_nothing_is_picked() -> None:
    """What is set aside for others is not spent, and due_in tells when tokens will be there."""
    watch = make_watch(1)
    planner = AdaptivePlanner([watch], reserve=0.25)

    planner.steer(NOW, Purse(tokens=297, capacity=1200, refill=4, costs={PLAIN: 15.0}))

    assert planner.pick(NOW, 10) is None
    assert planner.due_in(NOW) == 60_000
    planner.steer(NOW, Purse(tokens=313, capacity=1200, refill=4, costs={PLAIN: 15.0}))
    assert planner.due_in(NOW) == 30_000
    planner.steer(NOW, Purse(tokens=315, capacity=1200, refill=4, costs={PLAIN: 15.0}))
    assert planner.pick(NOW, 10) == Batch("DE", (watch,), first=True)


def test_picks_do_not_exceed_the_tokens_told() -> None:
    """Between two counts of the bucket, what was picked is taken off."""
    watches = [make_watch(number) for number in range(100)]
    planner = AdaptivePlanner(watches, reserve=0.0)
    planner.steer(NOW, Purse(tokens=100, capacity=1200, refill=20, costs={PLAIN: 3.0}))

    batches = [planner.pick(NOW, 20) for _ in range(3)]

    assert [batch and len(batch.watches) for batch in batches] == [20, 13, None]


def test_without_a_refill_the_plan_goes_on() -> None:
    """The bucket says that no tokens come, not the planner."""
    planner = AdaptivePlanner([make_watch(1)])

    planner.steer(NOW, Purse(tokens=0, capacity=0, refill=0))

    assert planner.pick(NOW, 10) is not None


def test_a_batch_is_of_one_marketplace_one_kind_and_one_request() -> None:
    """Marketplaces, first checks and what is asked for are not mixed."""
    extras = {n: OFFERS if n % 10 in (0, 1) else PLAIN for n in range(80)}
    watches = [make_watch(n, ("DE", "UK")[n % 2], extras=extras[n]) for n in range(80)]
    old = [seen(watch, NOW - DAY) for watch in watches[:60]]
    planner = AdaptivePlanner(watches, old)
    planner.steer(NOW, Purse(100_000, 120_000, 2000, costs={PLAIN: 1.0, OFFERS: 15.0}))

    found = Counter[tuple[str, bool, Extras]]()
    while batch := planner.pick(NOW, 100):
        found[batch.domain, batch.first, batch.extras] += len(batch.watches)
        assert {watch.domain for watch in batch.watches} == {batch.domain}
        assert {watch.extras for watch in batch.watches} == {batch.extras}

    assert found == {
        (domain, first, extras): (24 if not first else 8) // (1 if extras == PLAIN else 4)
        for domain in ("DE", "UK")
        for first in (False, True)
        for extras in (PLAIN, OFFERS)
    }


def test_a_batch_costs_no_more_than_a_call_may() -> None:
    """By the price of what is asked for; one product at least, whatever it costs."""
    watches = [make_watch(n, extras=OFFERS if n < 40 else PLAIN) for n in range(200)]
    planner = AdaptivePlanner(watches)
    planner.steer(NOW, Purse(10_000, 12_000, 200, costs={PLAIN: 1.0, OFFERS: 15.0}))

    picked = [planner.pick(NOW, 100, 80) for _ in range(9)]
    sizes = Counter((batch.extras, len(batch.watches)) for batch in picked if batch)
    lone = [len(batch.watches) for _ in range(2) if (batch := planner.pick(NOW, 100, 0))]

    assert sizes == {(OFFERS, 5): 8, (PLAIN, 80): 1}
    assert lone == [1, 1]


def test_a_dearer_check_is_due_later() -> None:
    """A product whose check costs fifteen tokens has to be worth them."""
    cheap, dear = make_watch(1, every_s=YEAR_S), make_watch(2, every_s=YEAR_S, extras=OFFERS)
    planner = AdaptivePlanner([cheap, dear], [seen(cheap, NOW), seen(dear, NOW)])

    planner.steer(NOW, Purse(30, 60, 0.01, costs={PLAIN: 1.0, OFFERS: 15.0}))

    waits = {terms.cost: planner.settlement.wait(terms) for terms, _ in planner.classes()}
    assert waits[15.0] > 2 * waits[1.0]


def test_a_sales_day_draws_checks_to_its_marketplace_and_lets_them_go() -> None:
    """While one marketplace changes ten times as often, its products come about twice as often."""
    watches = [make_watch(n, ("DE", "UK")[n % 2], every_s=YEAR_S) for n in range(1000)]
    life = Life(AdaptivePlanner(watches, aged(watches, [0.75] * 1000, 2 * HOUR)), refill=10)
    rng = random.Random(1)
    rushing = {"DE": 1.0, "UK": 1.0}

    def learned(watch: Watch) -> Rhythm:
        quiet = rng.expovariate(0.75 * rushing[watch.domain])
        minute = 8_000_000 + (life.now - NOW) // MINUTE
        return Rhythm(minute, 0.75e6, 1e6, minute - math.floor(quiet * 1440))

    life.learned = learned
    life.live(1440)
    assert life.planner.rushes == {}
    rushing["UK"] = 10.0
    life.live(240)
    life.forget()
    life.live(1000)

    sold = sum(len(times) for watch, times in life.checks.items() if watch.domain == "UK")
    others = sum(len(times) for watch, times in life.checks.items() if watch.domain == "DE")
    assert life.planner.rushes["UK"] > 4
    assert 1.5 < sold / others < 2.5
    rushing["UK"] = 1.0
    life.live(720)
    assert life.planner.rushes == {}


def test_what_a_check_teaches_changes_the_plan() -> None:
    """A product found to change often, or near its target, is due sooner than before."""
    watch = Watch("B000000001", "DE", 1.0, 1000, YEAR_S)
    planner = AdaptivePlanner([watch], [seen(watch, NOW - 9 * DAY, 0.1)], min_every_s=60)
    planner.steer(NOW, Purse(1200, 1200, 20))

    planner.pick(NOW, 1)
    planner.learn(watch, rhythm(8.0), 1000)
    planner.done([watch], NOW)

    ((terms, size),) = planner.classes()
    assert size == 1
    assert terms.rate == pytest.approx(8.0, rel=0.1)
    assert terms.weight == pytest.approx(4.0, rel=0.1)


def test_a_product_of_no_history_is_expected_to_be_like_the_others() -> None:
    """The prior is the mean rate of what is known."""
    watches = [make_watch(number) for number in range(101)]
    planner = AdaptivePlanner(watches, [seen(watch, NOW, 3.0) for watch in watches[:100]])
    planner.steer(NOW, PLENTY)
    planner.pick(NOW, 1)

    planner.done([watches[100]], NOW)

    assert planner.prior == pytest.approx(3.0)
    assert [size for _, size in planner.classes()] == [101]


def test_a_picked_product_is_out_until_it_is_back() -> None:
    """Two workers never check the same product at the same time."""
    watch = make_watch(1)
    planner = AdaptivePlanner([watch])
    planner.steer(NOW, PLENTY)
    planner.pick(NOW, 10)

    assert planner.pick(NOW + DAY, 10) is None
    assert planner.statistics(NOW).size == 1
    assert planner.due_in(NOW) == 60_000


@pytest.mark.parametrize("never_checked", [True, False])
def test_a_retried_product_is_due_when_asked_for(never_checked: bool) -> None:
    """What could not be checked comes back at the time given, as the kind it was."""
    watch = make_watch(1)
    planner = AdaptivePlanner([watch], [] if never_checked else [seen(watch, NOW - DAY)])
    planner.steer(NOW, PLENTY)
    planner.pick(NOW, 10)

    planner.retry([watch], NOW + 5000)

    assert planner.due_in(NOW) == 5000
    assert planner.pick(NOW + 4999, 10) is None
    assert planner.pick(NOW + 5000, 10) == Batch("DE", (watch,), first=never_checked)


def test_only_what_is_out_can_come_back() -> None:
    """Returning a product twice is a bug, and told as one."""
    watch = make_watch(1)
    planner = AdaptivePlanner([watch])
    planner.steer(NOW, PLENTY)
    planner.pick(NOW, 10)
    planner.done([watch], NOW)

    with pytest.raises(KeyError):
        planner.done([watch], NOW)
    with pytest.raises(KeyError):
        planner.retry([watch], NOW)
    with pytest.raises(KeyError):
        planner.learn(watch, None, None)


def test_a_clock_set_back_puts_nothing_off() -> None:
    """What was checked or put off by a clock a year ahead is due within its interval again."""
    ahead = NOW + 365 * DAY
    watches = [make_watch(number) for number in range(3)]
    planner = AdaptivePlanner(watches, [seen(watch, ahead) for watch in watches])
    planner.steer(ahead + DAY, PLENTY)
    out = planner.pick(ahead + DAY, 2)
    assert out is not None
    planner.retry(out.watches[:1], ahead + DAY)

    planner.steer(NOW, PLENTY)
    planner.pick(NOW, 1)
    planner.steer(NOW + DAY, PLENTY)
    while planner.pick(NOW + DAY, 10):
        pass

    assert planner.statistics(NOW + DAY).due == 0


def test_the_same_calls_make_the_same_plan() -> None:
    """Two planners told the same pick the same, whatever the hash seed."""
    lives = []
    for _ in range(2):
        watches = [make_watch(number, ("DE", "UK")[number % 2]) for number in range(300)]
        life = Life(AdaptivePlanner(watches, aged(watches, spread_rates(300))), refill=1)
        life.live(600)
        lives.append(life.checks)

    assert lives[0] == lives[1]
    assert len(lives[0]) > 100


class AdaptivePlannerMachine(RuleBasedStateMachine):
    """Any sequence of calls: no product is ever lost, doubled, or due too early."""

    def __init__(self) -> None:
        super().__init__()
        domains = ("DE", "UK", "FR")
        self.watches = [
            make_watch(
                n, domains[n % 3], every_s=(3600, 21_600)[n % 2], extras=(PLAIN, OFFERS)[n % 5 == 0]
            )
            for n in range(24)
        ]
        known = [seen(watch, NOW - n * HOUR, 2.0**n / 99) for n, watch in enumerate(self.watches)]
        self.planner = AdaptivePlanner(self.watches, known[::2], min_every_s=300)
        self.checked = {
            watch: one.checked_at for watch, one in zip(self.watches, known, strict=False)
        }
        self.retried: dict[Watch, int] = {}
        self.now = NOW
        self.out: list[Watch] = []
        self.costs: dict[Extras, int] = {}

    @rule(ms=st.integers(0, 3_000_000))
    def wait(self, ms: int) -> None:
        """Let time pass."""
        self.now += ms

    @rule(tokens=st.integers(-50, 1200), refill=st.sampled_from([0, 1, 20]), cost=st.integers(1, 9))
    def steer(self, tokens: int, refill: int, cost: int) -> None:
        """Let the bucket and the costs be any."""
        self.costs = {PLAIN: cost, OFFERS: 13 * cost}
        purse = Purse(min(tokens, 60 * refill), 60 * refill, refill, 0.5, self.costs)
        self.planner.steer(self.now, purse)

    @rule(most=st.integers(1, 8), tokens=st.integers(0, 60))
    def pick(self, most: int, tokens: int) -> None:
        """Pick some that are alike and not too dear, none of them out, nor before its floor."""
        batch = self.planner.pick(self.now, most, tokens)
        if batch:
            cost = self.costs.get(batch.extras, 1) * len(batch.watches)
            assert {watch.extras for watch in batch.watches} == {batch.extras}
            assert cost <= tokens or len(batch.watches) == 1
        for watch in batch.watches if batch else ():
            assert watch not in self.out
            assert watch.domain == batch.domain if batch else False
            if batch and not batch.first and watch not in self.retried:
                assert self.now - self.checked[watch] >= 300_000
            assert self.retried.pop(watch, 0) <= self.now
            self.out.append(watch)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), rate=st.floats(0.01, 100), price=st.none() | st.integers(0, 9))
    def done(self, data: st.DataObject, rate: float, price: int | None) -> None:
        """Return one as checked."""
        watch = data.draw(st.sampled_from(self.out))
        self.out.remove(watch)
        if rate > 0.1:
            self.planner.learn(watch, rhythm(rate), price)
        self.planner.done([watch], self.now)
        self.checked[watch] = self.now

    @precondition(lambda self: self.out)
    @rule(data=st.data(), ms=st.integers(-10_000, 100_000))
    def retry(self, data: st.DataObject, ms: int) -> None:
        """Return one to be tried again."""
        watch = data.draw(st.sampled_from(self.out))
        self.out.remove(watch)
        self.planner.retry([watch], self.now + ms)
        self.retried[watch] = self.now + ms

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        """Every product is counted once, and the classes hold those ever checked."""
        found = self.planner.statistics(self.now)
        assert found.size == 24
        assert 0 <= found.due <= 24 - len(self.out)
        assert sum(size for _, size in self.planner.classes()) <= 24
        due_in = self.planner.due_in(self.now)
        assert due_in is not None
        assert 0 <= due_in <= 60_000

    def teardown(self) -> None:
        """In the end every product that is not out comes out, once."""
        self.planner.steer(self.now, Purse(0, 0, 0))
        picked = Counter[Watch]()
        while batch := self.planner.pick(self.now + 10**12, 100):
            picked.update(batch.watches)
        assert picked == Counter(set(self.watches) - set(self.out))


AdaptivePlannerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestAdaptivePlannerMachine = AdaptivePlannerMachine.TestCase
