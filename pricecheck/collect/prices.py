"""The price task: the watchlist, batch by batch, as the planner picks and the bucket allows.

Nothing that goes wrong with one product, one answer or one spell of bad weather at Keepa ends
the task: a product that can't be read is set aside, a refused batch is halved to find the
culprit, and after a failed call all workers pause, and then one asks until an answer comes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

from pricecheck import config
from pricecheck.adaptive import AdaptivePlanner, Seen
from pricecheck.bucket import NoRefillError, TooExpensiveError
from pricecheck.collect.abroad import Abroad, others_to_look_at
from pricecheck.collect.alerts import mates
from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.digest import Digest, digest_products
from pricecheck.collect.periodic import NAP_S
from pricecheck.collect.products import Known, product_query, recall
from pricecheck.collect.spending import Priority, Spender
from pricecheck.collect.trouble import Trouble
from pricecheck.economy import Settlement
from pricecheck.errors import PricecheckError
from pricecheck.exchange import Rates
from pricecheck.extras import Extras
from pricecheck.keepa.client import ProductsAnswer
from pricecheck.keepa.errors import KeepaError, RejectedError
from pricecheck.keepa.tables import BY_CODE, MAX_ASINS
from pricecheck.logs import kv
from pricecheck.outbox import Commit, Outbox
from pricecheck.planner import Batch, Planner, Purse
from pricecheck.snapshot import WatchlistState
from pricecheck.supervisor import Heartbeat
from pricecheck.watchlist import Watch, profiles

log = logging.getLogger(__name__)

_MINUTE_MS: Final = 60_000

_LEAST_COST: Final = 0.1
"""Where Keepa asked nothing for what it has nothing on, a check still counts something."""

_LONE_RETRY_MS: Final = 30 * _MINUTE_MS
_REFUSALS_OF_KEEPA: Final = 3
"""After so many products were refused one by one and none taken, it is not the products."""


class PriceCollector:
    """Checks the products of one watchlist; several workers share its planner."""

    def __init__(
        self,
        watches: Sequence[Watch],
        spender: Spender,
        outbox: Outbox,
        derived: DerivedDeals,
        prices: config.Prices,
        *,
        concurrency: int,
        others: Callable[[Mapping[str, float]], float] = lambda _: 0.0,
        rules: Sequence[config.AlertRule] = (),
        rates: Callable[[], Rates] = Rates,
    ) -> None:
        """`others` tells what the other tasks spend, tokens a minute, at given costs.

        `rates` reads the exchange rates of the moment, in a thread.
        """
        self.trouble = Trouble("prices")
        self._watches = watches
        self._spender = spender
        self._outbox = outbox
        self._derived = derived
        self._prices = prices
        self._concurrency = concurrency
        # A fifteenth of the shortest wait: a product is not due again as soon as it is checked.
        shortest_s = min((watch.every_s for watch in watches), default=prices.every)
        self._soon_ms = min(_MINUTE_MS, min(shortest_s, prices.min_every) * 1000 // 15)
        self._others = others
        self._rules = rules
        self._rates = rates
        # Only these are compared with: what is watched no more has an old price.
        compares = any(rule.what == "spread" or rule.cheapest for rule in rules)
        self._watched = {(each.domain, each.asin) for each in watches} if compares else set()
        self._domains = frozenset(domain for domain, _ in self._watched)
        self._extras = profiles(watches)
        self._planner: Planner | AdaptivePlanner = Planner((), {})
        self._promised = 0.0  # tokens for what was picked and is not yet reserved
        self._absent = self._changes = self._set_aside = 0
        self._most = MAX_ASINS  # halved when answers fail, so that less is lost with the next
        self._refusals = 0  # of single products, since one was taken
        self._in_vain = False  # whether products were asked for in vain since they came last
        self._paused_until = 0.0  # trio's time, which no clock that is put right moves
        self._probing = trio.Lock()
        self._put_back = trio.Event()

    async def run(self, heartbeat: Heartbeat) -> None:
        """Check prices for ever, several calls at once. A restart plans from the store anew."""
        self._planner = await trio.to_thread.run_sync(self._plan)
        heartbeat.beat()
        async with trio.open_nursery() as nursery:
            for _ in range(self._concurrency):
                nursery.start_soon(self._work, heartbeat.part())

    @property
    def settlement(self) -> Settlement | None:
        """What a check may cost, and whether ceilings hold; None with fixed intervals."""
        planner = self._planner
        return planner.settlement if isinstance(planner, AdaptivePlanner) else None

    def state(self, bad_lines: int) -> WatchlistState:
        """Return how the watchlist is doing, for status."""
        now = self._now()
        plan, settled = self._planner.statistics(now), self.settlement
        return WatchlistState(
            products=len(self._watches),
            bad_lines=bad_lines,
            due=plan.due,
            next_due_s=None if plan.next_due_ms is None else max(0, plan.next_due_ms - now) / 1000,
            longest_overdue_s=plan.longest_overdue_ms / 1000,
            absent=self._absent,
            set_aside=self._set_aside,
            changes=self._changes,
            budget_a_day=round(settled.budget, 1) if settled else None,
            missing_a_day=round(settled.shortfall, 1) if settled else 0.0,
            rushes=self._planner.rushes if isinstance(self._planner, AdaptivePlanner) else {},
        )

    def _plan(self) -> Planner | AdaptivePlanner:
        if self._prices.mode == "fixed":
            checked = {(domain, asin): at_ms for domain, asin, at_ms in self._outbox.checked_at()}
            return Planner(self._watches, checked)
        return plan_adaptively(self._watches, self._outbox, self._prices)

    async def _work(self, heartbeat: Heartbeat) -> None:
        while True:
            if self.trouble.reason is None:
                await self._check_next(heartbeat)
                continue
            heartbeat.expect(math.inf, "waiting for Keepa to answer again")
            async with self._probing:
                heartbeat.expect(trio.current_time(), "")
                if self.trouble.reason is not None:
                    await self._check_next(heartbeat)

    async def _check_next(self, heartbeat: Heartbeat) -> None:
        """Check the next batch, or wait until there is one."""
        await self._await_pause(heartbeat)
        try:
            await self._spender.settle_doubts()  # or a batch can't be sized
        except KeepaError as error:
            self._pause(error)
            return
        if not self._in_vain:  # it was not known what there is to spend, and now it is
            self.trouble.end()
        now = self._now()
        self._planner.steer(now, self._purse())
        # What falls due soon goes along: fewer calls, nothing late.
        batch = self._planner.pick(now, self._most, self._tokens(), ahead_ms=self._soon_ms)
        if batch is None:
            await self._await_due(heartbeat, self._planner.due_in(now))
        else:
            await self._check(batch, heartbeat)

    async def _await_pause(self, heartbeat: Heartbeat) -> None:
        while self._paused_until > trio.current_time():
            heartbeat.expect(self._paused_until, "pausing after a failed call")
            await trio.sleep_until(self._paused_until)

    async def _await_due(self, heartbeat: Heartbeat, due_ms: int | None) -> None:
        if due_ms is None:
            heartbeat.expect(math.inf, "nothing to watch")
            await trio.sleep_forever()
        else:
            wait_s = min(max(due_ms / 1000, 1.0), NAP_S)
            heartbeat.expect(trio.current_time() + wait_s, "waiting for the next product due")
            with trio.move_on_after(wait_s):
                await self._put_back.wait()

    def _tokens(self) -> int:
        """Return what a call may cost: no more than tokens allow without a long wait."""
        bucket = self._spender.bucket
        rate = int(bucket.state().refill_rate or 0)
        return min(bucket.limit, max(bucket.available(), rate))

    def _purse(self) -> Purse:
        """Return what there is to spend on product checks."""
        bucket = self._spender.bucket
        known = bucket.state()
        return Purse(
            tokens=bucket.available() - self._promised,
            capacity=known.capacity or 0,
            refill=known.refill_rate or 0.0,
            others=self._others(known.costs),
            costs={
                extras: max(known.costs[extras.operation], _LEAST_COST) for extras in self._extras
            },
        )

    async def _check(self, batch: Batch, heartbeat: Heartbeat) -> None:
        """Check a batch; whatever Keepa answers, each of its products is planned again.

        Of a refused batch one product may be the culprit, so that its halves are asked for at
        once, and their halves: a refusal costs nothing.
        """
        parts = [batch.watches]
        while parts:
            part = parts.pop()
            try:
                await self._ask(batch.domain, batch.extras, part, heartbeat)
            except (RejectedError, TooExpensiveError) as error:
                if len(part) > 1:
                    half = len(part) // 2
                    parts += part[half:], part[:half]
                    continue
                self._refuse(part[0], error)
            except (KeepaError, NoRefillError) as error:
                if isinstance(error, KeepaError) and error.smaller:
                    # A call that began before the trouble may fail after smaller ones.
                    self._most = min(self._most, max(1, len(part) // 2))
                self._pause(error)
                # One alone may be what breaks the answers: the others go before it.
                alone = len(part) == 1 and isinstance(error, KeepaError) and error.smaller
                self._in_vain = True
                self._retry(part, alone=alone)
            else:
                self._in_vain = False
                self._refusals = 0
                self.trouble.end()
                self._most = min(self._most * 2, MAX_ASINS)
                self._planner.done(part, self._now())
            if self._paused_until > trio.current_time():
                for rest in parts:
                    self._retry(rest)
                return

    async def _ask(
        self, domain: str, extras: Extras, watches: Sequence[Watch], heartbeat: Heartbeat
    ) -> None:
        """Ask for products in one call, and keep what it brings."""
        market, asins = BY_CODE[domain], [watch.asin for watch in watches]
        digests: list[Digest] = []
        with self._promise(extras.operation, len(asins)) as kept:
            wanted = [*asins, *self._of_watched(domain, mates(self._rules, domain, asins))]
            stored = await self._spender.insist(
                partial(self._outbox.states, domain, wanted), heartbeat
            )
            known = {asin: recall(stored.get(asin)) for asin in wanted}
            query = product_query(
                self._prices.stats_days, extras, [known[asin] for asin in asins], self._now()
            )

            def keep(answer: ProductsAnswer) -> Commit:
                digest = digest_products(
                    answer,
                    watches,
                    known,
                    now_ms=self._now(),
                    lookback_s=self._prices.lookback,
                    derived=self._derived,
                    query=query,
                    rules=self._rules,
                    # Now, for the same product may have been checked elsewhere meanwhile.
                    abroad=self._look_abroad(domain, asins),
                )
                digests.append(digest)
                return digest.commit

            async def send() -> ProductsAnswer:
                kept()  # the tokens are reserved by now
                return await self._spender.client.products(market, asins, query)

            await self._spender.spend(
                extras.operation, len(asins), Priority.PRICES, heartbeat, send=send, keep=keep
            )
        by_asin = {watch.asin: watch for watch in watches}
        for digest in digests:
            self._count(digest)
            for lesson in digest.lessons:
                learned = lesson.known
                watch = by_asin[lesson.asin]
                self._planner.learn(watch, learned.rhythm, learned.current_price)

    def _look_abroad(self, domain: str, asins: Sequence[str]) -> Abroad:
        """Read what the same products cost elsewhere, where a rule asks for that."""
        others = others_to_look_at(self._rules, domain, self._domains)
        if not others:
            return Abroad()
        known: dict[str, dict[str, Known]] = {}
        for other in others:
            stored = self._outbox.states(other, self._of_watched(other, asins))
            recalled = {asin: recall(body) for asin, body in stored.items()}
            known[other] = {asin: one for asin, one in recalled.items() if one is not None}
        return Abroad(known, self._rates())

    def _of_watched(self, domain: str, asins: Iterable[str]) -> list[str]:
        return [asin for asin in asins if (domain, asin) in self._watched]

    @contextmanager
    def _promise(self, operation: str, units: int) -> Iterator[Callable[[], None]]:
        """Keep tokens from being planned with twice, until the function given is called."""
        tokens = [float(self._spender.bucket.estimate(operation, units))]
        self._promised += tokens[0]

        def kept() -> None:
            self._promised -= tokens[0]
            tokens[0] = 0.0

        try:
            yield kept
        finally:
            kept()

    def _count(self, digest: Digest) -> None:
        self._changes += sum(len(lesson.changes) for lesson in digest.lessons)
        self._absent += sum(lesson.price is None for lesson in digest.lessons)
        for alert in digest.alerts:
            said = kv(
                asin=alert.asin,
                domain=alert.domain,
                rule=alert.rule,
                price=alert.new_price,
                at=alert.changed_at,
            )
            log.info("alert", extra=said)
        self._set_aside += len(digest.commit.dead_letters)
        for letter in digest.commit.dead_letters:
            log.warning("product set aside", extra=kv(product=letter.id, reason=letter.reason))

    def _refuse(self, watch: Watch, error: PricecheckError) -> None:
        """Put off a product that is refused alone; pause when Keepa seems to refuse them all."""
        self._refusals += 1
        self._set_aside += 1
        log.warning(
            "product refused", extra=kv(product=f"{watch.domain}:{watch.asin}", error=error.message)
        )
        if self._refusals >= _REFUSALS_OF_KEEPA:
            self._in_vain = True
            self._pause(error)
        self._retry((watch,), alone=True)

    def _pause(self, error: PricecheckError) -> None:
        """Let all workers wait; calls that fail together make one pause."""
        now = trio.current_time()
        if self._paused_until <= now:
            self._paused_until = now + self.trouble.begin(error) / 1000

    def _retry(self, watches: Sequence[Watch], *, alone: bool = False) -> None:
        """Plan products for after the pause; one that may be the culprit for later."""
        pause_s = max(0.0, self._paused_until - trio.current_time())
        at = self._now() + round(pause_s * 1000)
        if alone:
            tenth_ms = watches[0].every_s * 100
            at += min(tenth_ms, _LONE_RETRY_MS)
        self._planner.retry(watches, at)
        self._put_back.set()
        self._put_back = trio.Event()

    def _now(self) -> int:
        return self._spender.time.now_ms()


def plan_adaptively(
    watches: Sequence[Watch], outbox: Outbox, prices: config.Prices
) -> AdaptivePlanner:
    """Return the plan that the stored states make: after a restart, what it was before."""
    return AdaptivePlanner(
        watches, seen_of(outbox), min_every_s=prices.min_every, reserve=prices.reserve
    )


def seen_of(outbox: Outbox) -> Iterator[Seen]:
    """Yield what is stored of every product, as far as a plan goes by it."""
    for state in outbox.product_states():
        known = recall(state.body) or Known()
        yield Seen(state.domain, state.asin, state.checked_at_ms, known.rhythm, known.current_price)
