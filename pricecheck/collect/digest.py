"""A whole product answer turned into one commit: records, product states, and what did not fit.

Here is the border at which a single product's trouble ends: whatever is wrong with it, its
neighbours in the answer pass, and it goes to the dead letters with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.misfits import dead_letter
from pricecheck.collect.products import Known, Lesson, learn, remember
from pricecheck.keepa import wire
from pricecheck.keepa.client import ProductQuery, ProductsAnswer
from pricecheck.keepa.tables import BY_CODE
from pricecheck.outbox import Commit, DeadLetter, ProductState
from pricecheck.records import Record
from pricecheck.watchlist import Watch

_WHOLE: Final = ProductQuery()


class Digest(msgspec.Struct, frozen=True):
    """What an answer amounts to: what to commit, and each product's lesson."""

    commit: Commit
    lessons: list[Lesson]


def digest_products(
    answer: ProductsAnswer,
    watches: Iterable[Watch],
    known: Mapping[str, Known | None],
    *,
    now_ms: int,
    lookback_s: int,
    derived: DerivedDeals,
    query: ProductQuery = _WHOLE,
) -> Digest:
    """Learn from each product of an answer; never raises for what is in the answer.

    The time of observation is the server's own, `now_ms` only where it tells none; the time of
    the check is ours, because the planner goes by it.
    """
    at_ms = (answer.envelope.timestamp_ms if answer.envelope else 0) or now_ms
    records: list[Record] = []
    states: list[ProductState] = []
    lessons: list[Lesson] = []
    letters: list[DeadLetter] = []
    awaited = {watch.asin: watch for watch in watches}
    domain = next(iter(awaited.values())).domain
    for bad in answer.misfits:
        letters.append(dead_letter("product", domain, bad, at_ms))
        watch = awaited.pop(bad.asin or "", None)
        if watch is not None:
            states.append(_state(watch, now_ms, known.get(watch.asin)))
    for product in answer.products:
        watch = awaited.pop(product.asin, None)
        if watch is None:
            continue  # not asked for, or there twice
        before = known.get(product.asin)
        try:
            lesson = learn(
                product,
                watch,
                BY_CODE[domain],
                before,
                query=query,
                observed_ms=at_ms,
                lookback_s=lookback_s,
            )
            new = [change.record() for change in lesson.changes]
            if lesson.price:
                new.append(lesson.price.record())
                new += [deal.record() for deal in derived.find(lesson.price, lesson)]
        except Exception as error:  # noqa: BLE001  # a record's border
            # The raw series are in it to the letter; fields that nobody reads are not.
            bad = wire.Misfit(product.asin, _reason(error), msgspec.json.encode(product))
            letters.append(dead_letter("product", domain, bad, at_ms))
            states.append(_state(watch, now_ms, before))
            continue
        records += new
        lessons.append(lesson)
        states.append(_state(watch, now_ms, lesson.known))
    for watch in awaited.values():
        before = known.get(watch.asin) or Known()
        gone = msgspec.structs.replace(before, absent="not in Keepa's answer")
        lessons.append(Lesson(watch.asin, None, [], gone))
        states.append(_state(watch, now_ms, gone))
    commit = Commit(records=tuple(records), states=tuple(states), dead_letters=tuple(letters))
    return Digest(commit, lessons)


def _state(watch: Watch, checked_at_ms: int, known: Known | None) -> ProductState:
    return ProductState(watch.domain, watch.asin, checked_at_ms, remember(known or Known()))


def _reason(error: Exception) -> str:
    """Say what is wrong; for what only a bug of ours can raise, with its type."""
    return str(error) if isinstance(error, wire.WireError) else f"{type(error).__name__}: {error}"
