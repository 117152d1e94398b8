"""A whole product answer turned into one commit: records, product states, and what did not fit.

Here is the border at which a single product's trouble ends: whatever is wrong with it, its
neighbours in the answer pass, and it goes to the dead letters with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.products import Known, Lesson, learn, remember
from pricecheck.keepa.client import ProductsAnswer
from pricecheck.keepa.tables import BY_CODE
from pricecheck.outbox import Commit, DeadLetter, ProductState
from pricecheck.records import Record
from pricecheck.watchlist import Watch


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
) -> Digest:
    """Learn from each product of an answer; never raises for what is in the answer.

    The time of observation is the server's own, `now_ms` only where it tells none.
    """
    at_ms = (answer.envelope.timestamp_ms if answer.envelope else 0) or now_ms
    records: list[Record] = []
    states: list[ProductState] = []
    lessons: list[Lesson] = []
    awaited = {watch.asin: watch for watch in watches}
    domain = next(iter(awaited.values())).domain
    letters = [
        _set_aside(domain, bad.asin or "unknown", bad.reason, bad.raw, at_ms)
        for bad in answer.misfits
    ]
    for bad in answer.misfits:
        awaited.pop(bad.asin or "", None)
    for product in answer.products:
        watch = awaited.pop(product.asin, None)
        if watch is None:
            continue  # not asked for, or there twice
        try:
            lesson = learn(
                product,
                watch,
                BY_CODE[domain],
                known.get(product.asin),
                observed_ms=at_ms,
                lookback_s=lookback_s,
            )
            new = [change.record() for change in lesson.changes]
            if lesson.price:
                new.append(lesson.price.record())
                new += [deal.record() for deal in derived.find(lesson.price, lesson)]
        except Exception as error:  # noqa: BLE001  # a record's border
            # The raw series are in it to the letter; fields that nobody reads are not.
            raw = msgspec.json.encode(product)
            letters.append(_set_aside(domain, product.asin, str(error), raw, at_ms))
            continue
        records += new
        lessons.append(lesson)
        states.append(_state(watch, at_ms, lesson.known))
    for watch in awaited.values():
        before = known.get(watch.asin) or Known()
        gone = msgspec.structs.replace(before, absent="not in Keepa's answer")
        lessons.append(Lesson(watch.asin, None, [], gone))
        states.append(_state(watch, at_ms, gone))
    commit = Commit(records=tuple(records), states=tuple(states), dead_letters=tuple(letters))
    return Digest(commit, lessons)


def _state(watch: Watch, at_ms: int, known: Known) -> ProductState:
    return ProductState(watch.domain, watch.asin, at_ms, remember(known))


def _set_aside(domain: str, asin: str, reason: str, raw: bytes, at_ms: int) -> DeadLetter:
    return DeadLetter(
        source="keepa",
        kind="product",
        id=f"{domain}:{asin}",
        key=asin,
        reason=reason,
        body=raw,
        at_ms=at_ms,
    )
