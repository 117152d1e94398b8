"""The planner against the promises it makes, over any sequence of picks and answers."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pricecheck.extras import PLAIN, Extras
from pricecheck.planner import Batch, Planner, Purse, fitting, next_due
from pricecheck.watchlist import Watch

OFFERS = Extras(offers=20)

NOW = 1_800_000_000_000
HOUR = 3_600_000
SIX_HOURS_S = 21_600
EVERY = SIX_HOURS_S * 1000


def make_watch(number: int, domain: str = "DE", every_s: int = SIX_HOURS_S) -> Watch:
    return Watch(f"B{number:09d}", domain, 1.0, None, every_s)


def checked(watches: list[Watch], at: int) -> dict[tuple[str, str], int]:
    return {(watch.domain, watch.asin): at for watch in watches}


def drain(planner: Planner, now: int, most: int = 100) -> list[Batch]:
    """Pick until nothing is due."""
    batches = []
    while batch := planner.pick(now, most):
        batches.append(batch)
    return batches


watches_st = st.builds(
    make_watch,
    st.integers(0, 10**9 - 1),
    st.sampled_from(["DE", "UK", "JP"]),
    st.integers(1, 10**6),
)
times_st = st.integers(NOW, NOW + 10**10)


@given(watches_st, times_st)
def test_next_due_is_never_further_than_the_interval(watch: Watch, after: int) -> None:
    """A product is due again after its check, and at most `every` later."""
    assert after < next_due(watch, after) <= after + watch.every_s * 1000


@given(watches_st, times_st)
def test_due_times_lie_on_a_lattice(watch: Watch, after: int) -> None:
    """Checked when due, a product is due exactly `every` later; checked between, no later."""
    point = next_due(watch, after)

    assert next_due(watch, point) == point + watch.every_s * 1000
    assert next_due(watch, point - 1) == point


def test_due_times_are_the_same_in_every_process() -> None:
    """The phase depends on the name only, so that a restart does not move the plan."""
    due = next_due(make_watch(1, every_s=21_601), NOW)

    assert next_due(make_watch(1), NOW) == 1_800_016_080_000
    assert isinstance(due, int)


@pytest.mark.parametrize("every_s", [7, SIX_HOURS_S, 14 * 86_400])
def test_products_checked_at_once_spread_over_the_interval(every_s: int) -> None:
    """Of 1,000 products about as many are due in each tenth of the interval."""
    dues = [next_due(make_watch(number, every_s=every_s), NOW) for number in range(1000)]

    tenths = Counter((due - NOW - 1) * 10 // (every_s * 1000) for due in dues)
    assert sorted(tenths) == list(range(10))
    assert min(tenths.values()) >= 60
    assert max(tenths.values()) <= 140


def test_an_empty_watchlist_has_nothing_due() -> None:
    """Without products there is nothing to pick and nothing to wait for."""
    planner = Planner((), {})

    assert planner.pick(NOW, 100) is None
    assert planner.due_in(NOW) is None
    assert planner.statistics(NOW).size == 0
    assert planner.statistics(NOW).next_due_ms is None


def test_new_products_are_due_at_once_in_the_order_of_the_file() -> None:
    """What was never checked is picked first come first served, as a first check."""
    watches = [make_watch(number) for number in (5, 3, 4)]
    planner = Planner(watches, {})

    assert planner.due_in(NOW) == 0
    assert planner.pick(NOW, 2) == Batch("DE", tuple(watches[:2]), first=True)
    assert planner.pick(NOW, 2) == Batch("DE", tuple(watches[2:]), first=True)
    assert planner.pick(NOW, 2) is None


def test_what_falls_due_soon_goes_along_and_begins_nothing() -> None:
    """A batch begins when a product is due, not before."""
    watches = [make_watch(1), make_watch(2)]
    due = sorted(next_due(watch, NOW) for watch in watches)
    ahead = due[1] - due[0]
    planner = Planner(watches, checked(watches, NOW))

    assert planner.pick(due[0] - 1, 10, ahead_ms=ahead) is None
    batch = planner.pick(due[0], 10, ahead_ms=ahead)
    assert batch is not None
    assert set(batch.watches) == set(watches)


def test_alone_what_is_due_is_picked() -> None:
    """Nothing goes along that nobody asked for."""
    watches = [make_watch(1), make_watch(2)]
    planner = Planner(watches, {})
    planner.pick(NOW, 10)
    for number, watch in enumerate(watches):
        planner.retry([watch], NOW + number)

    assert planner.pick(NOW, 10) == Batch("DE", (watches[0],), first=True)


def test_the_last_check_decides_when_a_product_is_due() -> None:
    """After a restart a product is due when it would have been without it."""
    watch = make_watch(1)
    due = next_due(watch, NOW)
    planner = Planner([watch], checked([watch], NOW))

    assert planner.due_in(NOW) == due - NOW
    assert planner.pick(due - 1, 10) is None
    assert planner.pick(due, 10) == Batch("DE", (watch,), first=False)


def test_a_batch_is_of_one_marketplace_and_one_kind() -> None:
    """Marketplaces and first checks are not mixed, however many are due."""
    old = [make_watch(number, domain) for number in range(50) for domain in ("DE", "UK")]
    new = [make_watch(number, domain) for number in range(50, 60) for domain in ("DE", "UK")]
    planner = Planner(old + new, checked(old, NOW))

    batches = drain(planner, NOW + EVERY)

    assert {(batch.domain, batch.first, len(batch.watches)) for batch in batches} == {
        ("DE", False, 50),
        ("UK", False, 50),
        ("DE", True, 10),
        ("UK", True, 10),
    }


def test_a_batch_asks_for_one_thing_and_fits_what_a_call_may_cost() -> None:
    """Products with extras go among themselves, as many as the tokens told are enough for."""
    watches = [make_watch(number) for number in range(30)]
    dear = [msgspec.structs.replace(watch, extras=OFFERS) for watch in watches[:20]]
    planner = Planner(dear + watches[20:], {})
    planner.steer(NOW, Purse(200, 1200, 20, costs={PLAIN: 1.0, OFFERS: 13.0}))

    picked = [planner.pick(NOW, 100, tokens=100) for _ in range(4)]

    assert [(batch.extras, len(batch.watches)) for batch in picked if batch] == [
        (OFFERS, 7),
        (OFFERS, 7),
        (OFFERS, 6),
        (PLAIN, 10),
    ]


def test_the_most_overdue_goes_first() -> None:
    """The batch holds the product that has waited longest, whatever its marketplace."""
    late, later = make_watch(1, "DE"), make_watch(2, "UK")
    planner = Planner([late, later], checked([late], NOW) | checked([later], NOW - EVERY))

    first, second = drain(planner, NOW + EVERY)

    assert first.watches == (later,)
    assert second.watches == (late,)


def test_new_products_take_turns_with_those_due_again() -> None:
    """A thousand new products do not hold up the old, nor the old the new."""
    old = [make_watch(number) for number in range(20)]
    new = [make_watch(number) for number in range(100, 1100)]
    planner = Planner(old + new, checked(old, NOW))

    kinds = [batch.first for batch in drain(planner, NOW + EVERY, most=10)]

    assert kinds[:5] == [True, False, True, False, True]
    assert all(kinds[5:])


def test_a_picked_product_is_out_until_it_is_back() -> None:
    """Two workers never check the same product at the same time."""
    watch = make_watch(1)
    planner = Planner([watch], {})

    planner.pick(NOW, 10)

    assert planner.pick(NOW + 9 * EVERY, 10) is None
    assert planner.statistics(NOW).size == 1


def test_while_all_are_out_the_wait_is_finite() -> None:
    """A worker that finds nothing left is told to look again, not that nothing is watched."""
    watch = make_watch(1)
    planner = Planner([watch], {})

    planner.pick(NOW, 10)

    assert planner.due_in(NOW) == next_due(watch, NOW) - NOW


def test_a_checked_product_waits_for_its_next_due_time() -> None:
    """After its first check a product is no first one any more."""
    watch = make_watch(1)
    planner = Planner([watch], {})
    planner.pick(NOW, 10)

    planner.done([watch], NOW)

    due = next_due(watch, NOW)
    assert planner.pick(due - 1, 10) is None
    assert planner.pick(due, 10) == Batch("DE", (watch,), first=False)


def test_a_check_ahead_of_its_time_is_not_repeated_at_its_time() -> None:
    """A product taken along a minute early is next due an interval after the time it was for."""
    watch = make_watch(1)
    planner = Planner([watch], checked([watch], NOW))
    due = next_due(watch, NOW)

    planner.pick(due, 10)
    planner.done([watch], due - 50_000)

    assert planner.due_in(due) == EVERY


@pytest.mark.parametrize("never_checked", [True, False])
def test_a_retried_product_is_due_when_asked_for(never_checked: bool) -> None:
    """What could not be checked comes back at the time given, as the kind it was."""
    watch = make_watch(1)
    planner = Planner([watch], {} if never_checked else checked([watch], NOW - EVERY))
    planner.pick(NOW, 10)

    planner.retry([watch], NOW + 5000)

    assert planner.due_in(NOW) == 5000
    assert planner.pick(NOW + 4999, 10) is None
    assert planner.pick(NOW + 5000, 10) == Batch("DE", (watch,), first=never_checked)


def test_a_batch_may_come_back_in_parts() -> None:
    """Half of a batch can be done and the other half tried again."""
    watches = [make_watch(number) for number in range(4)]
    planner = Planner(watches, {})
    planner.pick(NOW, 10)

    planner.done(watches[:2], NOW)
    planner.retry(watches[2:], NOW)

    assert planner.pick(NOW, 10) == Batch("DE", tuple(watches[2:]), first=True)


def test_only_what_is_out_can_come_back() -> None:
    """Returning a product twice is a bug, and told as one."""
    watch = make_watch(1)
    planner = Planner([watch], {})
    planner.pick(NOW, 10)
    planner.done([watch], NOW)

    with pytest.raises(KeyError):
        planner.done([watch], NOW)
    with pytest.raises(KeyError):
        planner.retry([watch], NOW)


def test_statistics_tell_how_far_behind_the_checks_are() -> None:
    """Size, what is late, what comes next and the longest delay are there for status."""
    old = [make_watch(number) for number in range(10)]
    new = [make_watch(number) for number in range(100, 103)]
    dues = sorted(next_due(watch, NOW) for watch in old)
    planner = Planner(old + new, checked(old, NOW))

    before = planner.statistics(NOW)
    planner.pick(NOW, 10)
    planned = planner.statistics(dues[0] - 1)
    behind = planner.statistics(dues[4])

    assert (before.size, before.due, before.longest_overdue_ms) == (13, 3, 0)
    assert before.next_due_ms == NOW
    assert (planned.size, planned.due, planned.next_due_ms) == (13, 0, dues[0])
    assert (behind.due, behind.longest_overdue_ms) == (5, dues[4] - dues[0])
    assert behind.next_due_ms == dues[4]


def test_checks_recorded_by_a_clock_ahead_put_nothing_off() -> None:
    """A product checked in the future, by what is stored, is due within its interval."""
    watch = make_watch(1)
    planner = Planner([watch], checked([watch], NOW + 365 * 24 * HOUR))

    planner.pick(NOW, 10)

    assert planner.due_in(NOW) == next_due(watch, NOW) - NOW


def test_a_clock_set_back_puts_nothing_off() -> None:
    """What was planned or picked by a clock a year ahead is due within its interval again."""
    ahead = NOW + 365 * 24 * HOUR
    watches = [make_watch(number) for number in range(2)]
    planner = Planner(watches, checked(watches, ahead))
    out = planner.pick(ahead + EVERY, 1)
    assert out is not None

    planner.pick(NOW, 10)
    planner.done(out.watches, NOW)

    picked = [watch for batch in drain(planner, NOW + EVERY) for watch in batch.watches]
    assert sorted(watch.asin for watch in picked) == [watch.asin for watch in watches]


def test_a_clock_set_back_keeps_new_products_new() -> None:
    """What was never checked is still asked for by itself."""
    planner = Planner([make_watch(1), make_watch(2)], {})
    planner.pick(NOW, 1)

    batch = planner.pick(NOW - 365 * 24 * HOUR, 1)

    assert batch is not None
    assert batch.first is True


@pytest.mark.parametrize(
    ("tokens", "cost", "products"),
    [(0, 1, 1), (0.5, 1, 1), (1.9, 1, 1), (2, 1, 2), (0.3, 0.1, 3), (100, 8, 12)],
)
def test_a_batch_costs_no_more_than_the_tokens(tokens: float, cost: float, products: int) -> None:
    """But one product is always asked for; a rounding error costs none."""
    assert fitting(tokens, cost) == products


def test_what_asks_for_something_of_unknown_cost_is_taken_to_cost_a_token() -> None:
    """Until the bucket has told."""
    planner = Planner([make_watch(number) for number in range(5)], {})

    batch = planner.pick(NOW, 100, tokens=3)

    assert batch is not None
    assert len(batch.watches) == 3


def test_a_clock_slewed_back_repeats_nothing() -> None:
    """Small corrections of the clock leave the plan as it is."""
    watch = make_watch(1)
    due = next_due(watch, NOW)
    planner = Planner([watch], checked([watch], NOW))
    planner.pick(due, 10)
    planner.done([watch], due)

    planner.pick(due - 30_000, 10)

    assert planner.due_in(due) == EVERY


@settings(max_examples=30)
@given(
    st.lists(watches_st, min_size=1, max_size=30, unique_by=lambda w: (w.domain, w.asin)),
    st.integers(1, 10),
    st.integers(0, 60_000),
)
def test_no_wait_exceeds_the_interval_when_the_caller_keeps_up(
    watches: list[Watch], most: int, ahead: int
) -> None:
    """From check to check at most `every` passes, early picks aside; in the long run exactly it."""
    planner = Planner(watches, {})
    last: dict[Watch, int] = {}
    now = NOW
    for _ in range(200):
        while batch := planner.pick(now + ahead, most):
            for watch in batch.watches:
                assert now - last.get(watch, now) <= watch.every_s * 1000 + ahead
                last[watch] = now
            planner.done(batch.watches, now)
        wait = planner.due_in(now + ahead)
        assert wait is not None
        assert wait > 0
        now += wait

    assert set(last) == set(watches)
    assert all(now - at <= watch.every_s * 1000 + ahead for watch, at in last.items())


def test_nothing_starves_when_tokens_are_short() -> None:
    """With a tenth of the checks it takes, products of every kind and marketplace get their turn.

    The budget is 10 checks an hour for 1,000 products that want one every 6 hours.
    """
    watches = [
        make_watch(number, ("DE", "UK")[number % 2], (SIX_HOURS_S, 600)[number % 3 == 0])
        for number in range(1000)
    ]
    planner = Planner(watches, checked(watches[:500], NOW - EVERY))
    counts: Counter[Watch] = Counter()
    now = NOW
    for _ in range(600):
        batch = planner.pick(now, 10)
        assert batch is not None
        counts.update(batch.watches)
        planner.done(batch.watches, now)
        now += HOUR

    assert len(counts) == 1000
    assert max(counts.values()) <= 10


class PlannerMachine(RuleBasedStateMachine):
    """Any sequence of picks and answers, beside a model that knows each product's due time."""

    def __init__(self) -> None:
        super().__init__()
        domains = ("DE", "UK", "FR")
        watches = [make_watch(n, domains[n % 3], (60, 3600, 7200)[n % 4 % 3]) for n in range(24)]
        known = checked(watches[:12], NOW - 1_000_000)
        self.planner = Planner(watches, known)
        self.now = NOW
        self.out: list[tuple[Watch, bool]] = []
        self.plan = {
            watch: (next_due(watch, NOW - 1_000_000), False)
            if (watch.domain, watch.asin) in known
            else (0, True)
            for watch in watches
        }

    @rule(ms=st.integers(0, 3_000_000))
    def wait(self, ms: int) -> None:
        """Let time pass."""
        self.now += ms

    @rule(most=st.integers(1, 8))
    def pick(self, most: int) -> None:
        """Pick what is due soonest of one kind, in due order."""
        due = {watch: plan for watch, plan in self.plan.items() if plan[0] <= self.now}
        batch = self.planner.pick(self.now, most)
        assert (batch is None) == (not due)
        if batch is None:
            return
        kind = {
            watch: at
            for watch, (at, first) in due.items()
            if (watch.domain, first) == (batch.domain, batch.first)
        }
        dues = [kind[watch] for watch in batch.watches]
        assert dues == sorted(kind.values())[:most]
        assert dues[0] == min(at for at, first in due.values() if first == batch.first)
        for watch in batch.watches:
            del self.plan[watch]
        self.out += [(watch, batch.first) for watch in batch.watches]

    @precondition(lambda self: self.out)
    @rule(data=st.data(), count=st.integers(1, 8))
    def done(self, data: st.DataObject, count: int) -> None:
        """Return some of what is out as checked."""
        for watch, _ in self._back(data, count):
            self.planner.done([watch], self.now)
            self.plan[watch] = (next_due(watch, self.now), False)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), count=st.integers(1, 8), ms=st.integers(-10_000, 100_000))
    def retry(self, data: st.DataObject, count: int, ms: int) -> None:
        """Return some of what is out to be tried again."""
        for watch, first in self._back(data, count):
            self.planner.retry([watch], self.now + ms)
            self.plan[watch] = (self.now + ms, first)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        """Every product is either out or planned, and as late as the model says."""
        found = self.planner.statistics(self.now)
        assert found.size == len(self.plan) + len(self.out) == 24
        assert found.due == sum(at <= self.now for at, _ in self.plan.values())

    def _back(self, data: st.DataObject, count: int) -> list[tuple[Watch, bool]]:
        start = data.draw(st.integers(0, len(self.out) - 1))
        back = self.out[start : start + count]
        del self.out[start : start + count]
        return back

    def teardown(self) -> None:
        """In the end every planned product comes out, once."""
        picked = Counter(
            w for batch in drain(self.planner, self.now + 10**8) for w in batch.watches
        )
        assert picked == Counter(self.plan.keys())


TestPlannerMachine = PlannerMachine.TestCase
