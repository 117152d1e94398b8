"""A whole product answer turned into one commit: records, product states, and what did not fit.

Here is the border at which a single product's trouble ends: whatever is wrong with it, its
neighbours in the answer pass, and it goes to the dead letters with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from pricecheck.collect.abroad import Abroad
from pricecheck.collect.alerts import find_alerts, find_deal_alerts
from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.misfits import dead_letter
from pricecheck.collect.products import Known, Lesson, learn, remember
from pricecheck.config import AlertRule
from pricecheck.keepa import wire
from pricecheck.keepa.client import ProductQuery, ProductsAnswer
from pricecheck.keepa.tables import BY_CODE
from pricecheck.outbox import Commit, ProductState
from pricecheck.records import Alert, Deal, Record
from pricecheck.watchlist import Watch

_WHOLE: Final = ProductQuery()
_NOWHERE: Final = Abroad()


class Digest(msgspec.Struct, frozen=True):
    """What an answer amounts to: what to commit, each product's lesson, and which changes rang."""

    commit: Commit
    lessons: list[Lesson]
    alerts: list[Alert]


def digest_products(
    answer: ProductsAnswer,
    watches: Iterable[Watch],
    known: Mapping[str, Known | None],
    *,
    now_ms: int,
    lookback_s: int,
    derived: DerivedDeals,
    query: ProductQuery = _WHOLE,
    rules: Sequence[AlertRule] = (),
    abroad: Abroad = _NOWHERE,
) -> Digest:
    """Learn from each product of an answer; never raises for what is in the answer.

    `known` is what was known of these products, and of the mates that the alert rules ask for;
    `abroad` of the same products in other marketplaces.
    The time of observation is the server's own, `now_ms` only where it tells none; the time of
    the check is ours, because the planner goes by it.
    """
    at_ms = (answer.envelope.timestamp_ms if answer.envelope else 0) or now_ms
    asked = {watch.asin: watch for watch in watches}
    domain = next(iter(asked.values())).domain
    learn_one = partial(
        learn, market=BY_CODE[domain], query=query, observed_ms=at_ms, lookback_s=lookback_s
    )
    taught, bad = _learn_each(answer, asked, known, learn_one)
    # Alerts only now, for a rule may ask which of several products is the cheapest.
    now_known = {asin: one for asin, one in known.items() if one is not None}
    now_known |= {lesson.asin: lesson.known for _, lesson in taught}
    records: list[Record] = []
    lessons: list[Lesson] = []
    alerts: list[Alert] = []
    for product, lesson in taught:
        watch, before = asked[lesson.asin], known.get(lesson.asin)
        try:
            rang, told = find_alerts(rules, watch, before, lesson, now_known, abroad)
            deals = derived.find(lesson.price, lesson) if lesson.price else []
            # A deal rings at each check under the same id: no news, but at the first.
            of_deals = [alert for deal in deals for alert in find_deal_alerts(rules, deal)]
            new = _records(lesson, deals, [*rang, *of_deals])
        except Exception as error:  # noqa: BLE001  # a record's border
            bad.append(_misfit(product, error))
            continue
        records += new
        alerts += rang
        remembered = msgspec.structs.replace(lesson.known, told=told)
        lessons.append(msgspec.structs.replace(lesson, known=remembered))
    met = {lesson.asin for lesson in lessons} | {one.asin for one in bad}
    for asin in asked.keys() - met:
        gone = msgspec.structs.replace(known.get(asin) or Known(), absent="not in Keepa's answer")
        lessons.append(Lesson(asin, None, [], gone))
    after = {one.asin: known.get(one.asin) for one in bad if one.asin in asked}
    after |= {lesson.asin: lesson.known for lesson in lessons}
    commit = Commit(
        records=tuple(records),
        states=tuple(_state(asked[asin], now_ms, one) for asin, one in after.items()),
        dead_letters=tuple(dead_letter("product", domain, one, at_ms) for one in bad),
    )
    return Digest(commit, lessons, alerts)


def _learn_each(
    answer: ProductsAnswer,
    asked: Mapping[str, Watch],
    known: Mapping[str, Known | None],
    learn_one: Callable[..., Lesson],
) -> tuple[list[tuple[wire.Product, Lesson]], list[wire.Misfit]]:
    """Return what each product asked for teaches, and those that can't be read."""
    taught: list[tuple[wire.Product, Lesson]] = []
    bad = list(answer.misfits)
    awaited = asked.keys() - {one.asin for one in bad}
    for product in answer.products:
        if product.asin not in awaited:
            continue  # not asked for, or there twice
        awaited.remove(product.asin)
        try:
            lesson = learn_one(product, asked[product.asin], known=known.get(product.asin))
        except Exception as error:  # noqa: BLE001  # a record's border
            bad.append(_misfit(product, error))
        else:
            taught.append((product, lesson))
    return taught, bad


def _records(lesson: Lesson, deals: Iterable[Deal], alerts: Iterable[Alert]) -> list[Record]:
    return [
        *(change.record() for change in lesson.changes),
        *([lesson.price.record()] if lesson.price else []),
        *(deal.record() for deal in deals),
        *(alert.record() for alert in alerts),
    ]


def _state(watch: Watch, checked_at_ms: int, known: Known | None) -> ProductState:
    return ProductState(watch.domain, watch.asin, checked_at_ms, remember(known or Known()))


def _misfit(product: wire.Product, error: Exception) -> wire.Misfit:
    # The raw series are in it to the letter; fields that nobody reads are not.
    return wire.Misfit(product.asin, _reason(error), msgspec.json.encode(product))


def _reason(error: Exception) -> str:
    """Say what is wrong; for what only a bug of ours can raise, with its type."""
    return str(error) if isinstance(error, wire.WireError) else f"{type(error).__name__}: {error}"
