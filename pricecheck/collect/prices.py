"""The price task: the watchlist, batch by batch, as the planner picks and the bucket allows.

Nothing that goes wrong with one product, one answer or one spell of bad weather at Keepa ends
the task: a product that can't be read is set aside, a refused batch is halved to find the
culprit, and after a failed call all workers pause.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec
import trio

from pricecheck import config
from pricecheck.bucket import NoRefillError, TooExpensiveError
from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.digest import digest_products
from pricecheck.collect.products import Known, recall
from pricecheck.collect.spending import Priority, Spender
from pricecheck.keepa.client import ProductQuery, ProductsAnswer
from pricecheck.keepa.errors import KeepaError, RejectedError
from pricecheck.keepa.tables import BY_CODE, MAX_ASINS
from pricecheck.keepa.time import from_unix_ms
from pricecheck.logs import kv
from pricecheck.outbox import Commit, Outbox
from pricecheck.planner import Batch, Planner
from pricecheck.snapshot import WatchlistState
from pricecheck.supervisor import Heartbeat
from pricecheck.watchlist import Watch

log = logging.getLogger(__name__)

_MINUTE_MS: Final = 60_000
_DAY_MINUTES: Final = 24 * 60
_LONGEST_PAUSE_MS: Final = 5 * _MINUTE_MS
_LONE_RETRY_MS: Final = 30 * _MINUTE_MS


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
    ) -> None:
        self.trouble: str | None = None  # why Keepa answers nothing, for status
        self._watches = watches
        self._spender = spender
        self._outbox = outbox
        self._derived = derived
        self._prices = prices
        self._concurrency = concurrency
        self._planner = Planner((), {})
        self._absent = self._changes = self._set_aside = 0
        self._most = MAX_ASINS  # halved when answers fail, so that less is lost with the next
        self._failures = 0
        self._paused_until_ms = 0

    async def run(self, heartbeat: Heartbeat) -> None:
        """Check prices for ever, several calls at once. A restart plans from the store anew."""
        self._planner = await trio.to_thread.run_sync(self._plan)
        heartbeat.beat()
        async with trio.open_nursery() as nursery:
            for _ in range(self._concurrency):
                nursery.start_soon(self._work, heartbeat)

    def state(self, bad_lines: int) -> WatchlistState:
        """Return how the watchlist is doing, for status."""
        now = self._now()
        plan = self._planner.statistics(now)
        return WatchlistState(
            products=len(self._watches),
            bad_lines=bad_lines,
            due=plan.due,
            next_due_s=None if plan.next_due_ms is None else max(0, plan.next_due_ms - now) / 1000,
            longest_overdue_s=plan.longest_overdue_ms / 1000,
            absent=self._absent,
            set_aside=self._set_aside,
            changes=self._changes,
        )

    def _plan(self) -> Planner:
        checked = {(domain, asin): at_ms for domain, asin, at_ms in self._outbox.checked_at()}
        return Planner(self._watches, checked)

    async def _work(self, heartbeat: Heartbeat) -> None:
        while True:
            await self._await_pause(heartbeat)
            now = self._now()
            # What falls due within the next minute goes along: fewer calls, nothing late.
            batch = self._planner.pick(now + _MINUTE_MS, self._batch_size())
            if batch is None:
                await self._await_due(heartbeat, self._planner.due_in(now))
            else:
                await self._check(batch, heartbeat)

    async def _await_pause(self, heartbeat: Heartbeat) -> None:
        while (left_ms := self._paused_until_ms - self._now()) > 0:
            heartbeat.expect(trio.current_time() + left_ms / 1000, "pausing after a failed call")
            await trio.sleep(left_ms / 1000)

    async def _await_due(self, heartbeat: Heartbeat, due_ms: float | None) -> None:
        if due_ms is None:
            heartbeat.expect(float("inf"), "nothing to watch")
            await trio.sleep_forever()
        else:
            wait_s = max(due_ms / 1000, 1.0)
            heartbeat.expect(trio.current_time() + wait_s, "waiting for the next product due")
            await trio.sleep(wait_s)

    def _batch_size(self) -> int:
        """Return how many products to ask for: no more than tokens allow without a long wait."""
        bucket = self._spender.bucket
        unit = bucket.estimate("product")
        rate = int(bucket.state().refill_rate or 0)
        affordable = min(bucket.limit, max(bucket.available(), rate))
        return max(1, min(self._most, affordable // unit))

    async def _check(self, batch: Batch, heartbeat: Heartbeat) -> None:
        """Check one batch; whatever happens, each of its products is planned again."""
        asins = [watch.asin for watch in batch.watches]
        stored = await trio.to_thread.run_sync(self._outbox.states, batch.domain, asins)
        known = {asin: recall(body) for asin, body in stored.items()}
        market = BY_CODE[batch.domain]
        try:
            await self._spender.spend(
                "product",
                len(asins),
                Priority.PRICES,
                heartbeat,
                send=partial(
                    self._spender.client.products, market, asins, self._query(batch, known)
                ),
                keep=partial(self._keep, batch, known),
            )
        except KeepaError as error:
            await self._failed(batch, error, heartbeat)
        except (TooExpensiveError, NoRefillError) as error:
            # The plan has become smaller since the batch was sized, or brings nothing at all.
            self._pause(batch, _MINUTE_MS, error.message)
        else:
            self._failures = 0
            self.trouble = None
            self._most = min(self._most * 2, MAX_ASINS)
            self._planner.done(batch.watches, self._now())

    def _query(self, batch: Batch, known: dict[str, Known | None]) -> ProductQuery:
        """Ask for all history at the first check, later for what is new since the oldest answer."""
        days = None
        seen = [one.last_update for one in known.values() if one and one.last_update is not None]
        if not batch.first and len(seen) == len(batch.watches):
            days = max(0, from_unix_ms(self._now()) - min(seen)) // _DAY_MINUTES + 2
        return ProductQuery(
            stats_days=self._prices.stats_days,
            days=days,
            buybox=self._prices.buybox,
            offers=self._prices.offers,
            update=self._prices.update,
        )

    def _keep(self, batch: Batch, known: dict[str, Known | None], answer: ProductsAnswer) -> Commit:
        """Turn an answer into what is committed of it, and count; runs in a thread."""
        digest = digest_products(
            answer,
            batch.watches,
            known,
            now_ms=self._now(),
            lookback_s=self._prices.lookback,
            derived=self._derived,
        )
        self._changes += sum(len(lesson.changes) for lesson in digest.lessons)
        self._absent += sum(lesson.price is None for lesson in digest.lessons)
        self._set_aside += len(digest.commit.dead_letters)
        for letter in digest.commit.dead_letters:
            log.warning("product set aside", extra=kv(product=letter.id, reason=letter.reason))
        return digest.commit

    async def _failed(self, batch: Batch, error: KeepaError, heartbeat: Heartbeat) -> None:
        """Plan a batch again whose call brought nothing, smaller where that may help."""
        watches = batch.watches
        half = len(watches) // 2
        if isinstance(error, RejectedError) and half:
            # One of them is the culprit: ask for each half at once, a refusal costs nothing.
            for part in (watches[:half], watches[half:]):
                await self._check(msgspec.structs.replace(batch, watches=part), heartbeat)
        elif error.retry_after_ms is None:
            log.warning("product refused", extra=kv(asin=watches[0].asin, error=error.message))
            self._planner.done(watches, self._now())
        else:
            if error.smaller:
                self._most = max(1, half)
            self._failures += 1
            backoff_ms = min(error.retry_after_ms << min(self._failures - 1, 16), _LONGEST_PAUSE_MS)
            self._pause(batch, max(error.retry_after_ms, backoff_ms), str(error))

    def _pause(self, batch: Batch, pause_ms: int, reason: str) -> None:
        """Let all workers wait, and plan the batch for after that."""
        log.warning(
            "price check failed",
            extra=kv(
                domain=batch.domain,
                products=len(batch.watches),
                pause_s=pause_ms // 1000,
                reason=reason,
            ),
        )
        self.trouble = reason
        until_ms = self._now() + pause_ms
        self._paused_until_ms = max(self._paused_until_ms, until_ms)
        # One alone may be what breaks the answers: let the others go before it tries again.
        alone_ms = _LONE_RETRY_MS if len(batch.watches) == 1 else 0
        self._planner.retry(batch.watches, until_ms + alone_ms)

    def _now(self) -> int:
        return self._spender.time.now_ms()
