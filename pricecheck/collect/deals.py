"""The deal tasks, and deals derived from our own product checks where the plan has no /deal."""

from __future__ import annotations

import html
import logging
import math
import re
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec
import trio

from pricecheck.collect.alerts import find_deal_alerts
from pricecheck.collect.candidates import Sieve
from pricecheck.collect.misfits import dead_letter
from pricecheck.collect.periodic import periodically
from pricecheck.collect.products import Lesson, product_url
from pricecheck.collect.spending import Priority, Spender
from pricecheck.collect.trouble import Trouble
from pricecheck.config import AlertRule, DealRule
from pricecheck.keepa import wire
from pricecheck.keepa.client import DealQuery, DealsAnswer
from pricecheck.keepa.errors import NotInPlanError
from pricecheck.keepa.tables import SERIES
from pricecheck.keepa.time import to_rfc3339, to_unix_ms
from pricecheck.logs import kv
from pricecheck.outbox import Commit
from pricecheck.records import Deal, Price, Record
from pricecheck.supervisor import Heartbeat

log = logging.getLogger(__name__)

_ANY_PRICE: Final = 2**31 - 1
_BY_PERCENT: Final = 4  # DealRequest.sortType
_MONTH: Final = 2  # DealRequest.dateRange; also the interval of avg and deltaPercent: 31 days
_TAG: Final = re.compile(r"</?[a-zA-Z][^<>]*>")
_DAY_S: Final = 24 * 3600
_NO_ROOT: Final = (0, 2**63 - 1)  # what Keepa writes for an unknown root category


class DerivedDeals:
    """The deal rules that Keepa does not answer for this plan, applied to product checks.

    A product is a deal when its price is far enough below its 90-day average or list price.
    """

    def __init__(self) -> None:
        # Replaced, never changed: the threads that digest answers read it meanwhile.
        self.rules: frozenset[DealRule] = frozenset()

    def find(self, price: Price, lesson: Lesson) -> list[Deal]:
        """Return the deals that a checked product makes under the active rules."""
        return [
            deal
            for rule in self.rules
            if rule.domain == price.domain
            and (rule.category is None or rule.category in lesson.categories)
            and (deal := _derive(rule, price, lesson)) is not None
        ]


async def collect_deals(
    heartbeat: Heartbeat,
    rule: DealRule,
    spender: Spender,
    derived: DerivedDeals,
    trouble: Trouble,
    alerts: Sequence[AlertRule] = (),
    sieves: Sequence[Sieve] = (),
) -> None:
    """Collect one rule's deals for ever; on a plan without /deal, have them derived instead.

    What the sieves of discovery find among them is kept with them.
    """
    page, begun = 0, 0.0  # in trio's time: what has failed goes on where it was

    async def once() -> int:
        nonlocal page, begun
        if page == 0 or trio.current_time() >= begun + rule.every:
            page, begun = 0, trio.current_time()
        try:
            while page < rule.pages:
                answer = await ask(page)
                page = rule.pages if answer.is_last_page else page + 1
        except NotInPlanError:
            if rule not in derived.rules:
                log.warning(
                    "plan has no deals: deriving them from product checks",
                    extra=kv(rule=rule.name, remedy="a larger Keepa plan; asked again daily"),
                )
            derived.rules |= {rule}
            return _DAY_S
        derived.rules -= {rule}
        page = 0
        return rule.every

    async def ask(page: int) -> DealsAnswer:
        def keep(answer: DealsAnswer) -> Commit:
            now_ms = spender.time.now_ms()
            return digest_deals(
                answer, rule, page=page, now_ms=now_ms, alerts=alerts, sieves=sieves
            )

        return await spender.spend(
            "deal",
            1,
            Priority.DEALS,
            heartbeat,
            send=partial(spender.client.deals, rule.domain.market, _query(rule, page)),
            keep=keep,
        )

    await periodically(heartbeat, once, every_s=rule.every, spender=spender, trouble=trouble)


def deal_score(
    discount_percent: int | None, rating: float | None, reviews: int | None, rank: int | None
) -> float:
    """Return how good a deal is, 0 to 100.

    50 points for the discount (all of them at 50 % off), 20 for stars above three, 20 for the
    number of reviews (all at 10,000) and 10 for the sales rank (all at 1, none at 1,000,000),
    the last two by their logarithm. What is not known scores nothing.
    """
    score: float = min(max(discount_percent or 0, 0), 50)
    score += min(max((rating or 3) - 3, 0), 2) * 10
    score += min(math.log10(1 + (reviews or 0)), 4) * 5
    score += max(0.0, 6 - math.log10(rank)) / 6 * 10 if rank and rank > 0 else 0
    return round(score, 1)


def _query(rule: DealRule, page: int) -> DealQuery:
    factor = 10**rule.domain.market.minor_digits
    most = math.inf if rule.max_price is None else rule.max_price * factor
    return DealQuery(
        page=page,
        domain_id=rule.domain.market.id,
        price_types=[SERIES[rule.price_type].index],
        date_range=_MONTH,
        include_categories=[rule.category] if rule.category is not None else [],
        delta_percent_range=(rule.min_discount, rule.max_discount),
        current_range=(round(rule.min_price * factor), round(min(most, _ANY_PRICE))),
        min_rating=round(rule.min_rating * 10) or -1,
        sort_type=_BY_PERCENT,
        is_range_enabled=True,
        is_filter_enabled=True,
    )


def digest_deals(
    answer: DealsAnswer,
    rule: DealRule,
    *,
    page: int,
    now_ms: int,
    alerts: Sequence[AlertRule] = (),
    sieves: Sequence[Sieve] = (),
) -> Commit:
    """Turn a page of deals into what is committed of it; a deal that does not fit goes alone."""
    at_ms = (answer.envelope.timestamp_ms if answer.envelope else 0) or now_ms
    letters = [dead_letter("deal", rule.domain, bad, at_ms) for bad in answer.misfits]
    records: list[Record] = []
    legible: list[Deal] = []
    for deal in answer.deals:
        try:
            read = _of_wire(rule, deal, at_ms)
            found = [alert.record() for alert in find_deal_alerts(alerts, read)]
            records += [read.record(), *found]
            legible.append(read)
        except Exception as error:  # noqa: BLE001  # a record's border
            misfit = wire.Misfit(deal.asin, str(error), msgspec.json.encode(deal))
            letters.append(dead_letter("deal", rule.domain, misfit, at_ms))
    for letter in letters:
        log.warning("deal set aside", extra=kv(deal=letter.id, reason=letter.reason))
    # Only with the last page is the rule done: what fails before is not put off by a restart.
    done = answer.is_last_page or page + 1 == rule.pages
    marks = ((rule.name, now_ms),) if done else ()
    candidates = [one for sieve in sieves for one in sieve.of_deals(legible, now_ms)]
    return Commit(
        records=tuple(records),
        dead_letters=tuple(letters),
        marks=marks,
        candidates=tuple(candidates),
    )


def _of_wire(rule: DealRule, deal: wire.Deal, at_ms: int) -> Deal:
    """Read one of Keepa's deals, against the average of its last month.

    Raises WireError when it has no time of creation.
    """
    if not deal.creation_date:
        raise wire.WireError("the deal has no creationDate")
    index = SERIES[rule.price_type].index
    rating = _cell(deal.current, SERIES["RATING"].index)
    reviews = _cell(deal.current, SERIES["COUNT_REVIEWS"].index)
    rank = _cell(deal.current, SERIES["SALES"].index)
    discount = _cell(_month(deal.delta_percent), index)
    stars = rating / 10 if rating is not None else None
    root_known = deal.root_cat not in (None, *_NO_ROOT)
    return Deal(
        asin=deal.asin,
        domain=rule.domain.market.code,
        currency=rule.domain.market.currency,
        title=_plain(deal.title) if deal.title else None,
        price_type=SERIES[rule.price_type].name,
        created_at=to_rfc3339(to_unix_ms(deal.creation_date)),
        timestamp=to_rfc3339(at_ms),
        current_price=_cell(deal.current, index),
        original_price=_cell(_month(deal.avg), index),
        discount_percent=discount,
        rating=stars,
        review_count=reviews,
        sales_rank=rank,
        category=deal.root_cat if root_known else next(iter(deal.categories or ()), None),
        deal_score=deal_score(discount, stars, reviews, rank),
        source="keepa",
        url=product_url(rule.domain.market, deal.asin),
    )


def _derive(rule: DealRule, price: Price, lesson: Lesson) -> Deal | None:
    """Return the deal that a checked product makes under a rule, if it makes one."""
    current = price.prices.get(rule.price_type)
    last = lesson.known.prices.get(rule.price_type)
    usual = price.stats.get("avg90", {}).get(rule.price_type)
    original = max(usual or 0, price.prices.get("LISTPRICE", 0))
    if current is None or last is None or not original:
        return None
    market = rule.domain.market
    discount = round((original - current) * 100 / original)
    dearest = math.inf if rule.max_price is None else rule.max_price
    fits = (
        rule.min_discount <= discount <= rule.max_discount
        and rule.min_price <= current / 10**market.minor_digits <= dearest
        and (price.rating or 0) >= rule.min_rating
    )
    if not fits:
        return None
    return Deal(
        asin=price.asin,
        domain=price.domain,
        currency=price.currency,
        title=price.title,
        price_type=SERIES[rule.price_type].name,
        created_at=to_rfc3339(to_unix_ms(last.minute)),
        timestamp=price.timestamp,
        current_price=current,
        original_price=original,
        discount_percent=discount,
        rating=price.rating,
        review_count=price.review_count,
        sales_rank=price.sales_rank,
        category=rule.category,
        deal_score=deal_score(discount, price.rating, price.review_count, price.sales_rank),
        source="derived",
        url=price.url,
    )


def _plain(title: str) -> str:
    """Take the markup out of a title (Keepa's Java client warns of it) and resolve its entities."""
    return html.unescape(_TAG.sub("", title))


def _month(table: list[list[int]] | None) -> list[int] | None:
    """Return the row of the last month in a table by interval."""
    return table[_MONTH] if table is not None and len(table) > _MONTH else None


def _cell(row: list[int] | None, index: int) -> int | None:
    """Return a row's value at a csv index; None where there is none."""
    return wire.value(row[index]) if row is not None and index < len(row) else None
