"""The search tasks: what a discovery rule looks for, asked of Keepa's product finder.

Keepa filters by all that the rule says and the finder can tell, and answers with bare ASINs; who
fits is judged by discovery. A search is paid for as candidates are: behind everybody else and only
with tokens above the reserve, and not at all while the rule has what it wants.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import Final
from zlib import crc32

import msgspec
import trio

from pricecheck.collect.candidates import Sieve
from pricecheck.collect.periodic import periodically
from pricecheck.collect.spending import Priority, Spender
from pricecheck.collect.trouble import Trouble
from pricecheck.config import DiscoveryRule
from pricecheck.keepa.client import FinderAnswer, FinderQuery
from pricecheck.keepa.tables import LEAST_FOUND, MOST_FOUND, finder_price
from pricecheck.logs import kv
from pricecheck.outbox import Commit, Outbox
from pricecheck.supervisor import Heartbeat

log = logging.getLogger(__name__)

_NAP_S: Final = 60
_WITH_PRICES: Final = (0, 1)  # Product.productType: standard, downloadable
_BEST_FIRST: Final = (("current_SALES", "asc"),)
_ROUNDING: Final = 1e-6
_LOOSER: Final = "loosen its filters; its category must be one within a root category"


async def collect_search(
    heartbeat: Heartbeat, sieve: Sieve, spender: Spender, outbox: Outbox, trouble: Trouble
) -> None:
    """Search for ever, `rule.every` seconds apart, page by page until there are enough.

    A rule that asks for something else than before is searched for at once.
    """
    rule = sieve.rule
    query = finder_query(rule)
    mark = f"{rule.source_name} {rule.domain} {crc32(msgspec.json.encode(query)):08x}"
    depth = min(rule.top, MOST_FOUND)
    standing = partial(spender.insist, partial(_standing, outbox, rule), heartbeat)

    page, size, begun = 0, 0, 0.0  # in trio's time: what has failed goes on where it was

    async def once() -> int:
        nonlocal page, size, begun
        room, known = await standing()
        if room <= 0:
            return rule.every
        affordable = _asins_for(await spender.spare_units("query", rule.reserve))
        if page == 0 or trio.current_time() >= begun + rule.every:
            page, begun = 0, trio.current_time()
            # What is known already comes again, before what is new.
            size = min(max(LEAST_FOUND, min(room + known, depth)), affordable)
        if not LEAST_FOUND <= size <= affordable:
            return _NAP_S
        while True:
            answer = await ask(page, size)
            if not page and not answer.asins:
                log.warning("search found nothing", extra=kv(rule=rule.name, remedy=_LOOSER))
            page += 1
            seen = page * size
            room, known = await standing()
            if len(answer.asins) < size or room <= 0 or seen >= depth or seen + size > MOST_FOUND:
                break
            if _asins_for(await spender.spare_units("query", rule.reserve)) < size:
                break
        log.info("searched", extra=kv(rule=rule.name, pages=page, candidates=known))
        page = 0
        await spender.commit(Commit(marks=((mark, spender.time.now_ms()),)), heartbeat)
        return rule.every

    async def ask(page: int, size: int) -> FinderAnswer:
        def keep(answer: FinderAnswer) -> Commit:
            asins = answer.asins[: depth - page * size]
            return Commit(candidates=tuple(sieve.of_list(asins, spender.time.now_ms())))

        wanted = msgspec.structs.replace(query, page=page, per_page=size)
        return await spender.spend(
            "query",
            finder_price(size),
            Priority.DISCOVERY,
            heartbeat,
            send=partial(spender.client.find, rule.domain.market, wanted),
            keep=keep,
        )

    await periodically(
        heartbeat, once, every_s=rule.every, spender=spender, trouble=trouble, mark=mark
    )


def finder_query(rule: DiscoveryRule) -> FinderQuery:
    """Return the selection that leaves out nothing a rule takes, but for words in compounds.

    Of `words` it holds those that the finder may know as words; `without` is left to discovery,
    for how the finder would be told is not known.
    """
    assert isinstance(rule.category, int)  # or the check had refused it
    factor = 10**rule.domain.market.minor_digits
    priced = rule.min_price > 0 or rule.max_price is not None
    dearest = None if rule.max_price is None else math.floor(rule.max_price * factor + _ROUNDING)
    return FinderQuery(
        categories_include=(rule.category,),
        title=" ".join(part for words in rule.words for part in words.split() if part.isalnum()),
        brand=rule.brands,
        least_price=math.ceil(rule.min_price * factor - _ROUNDING) if priced else None,
        most_price=dearest,
        least_rating=math.ceil(rule.min_rating * 10 - _ROUNDING) or None,
        least_reviews=rule.min_reviews or None,
        best_rank=1,  # what has none would be -1, and come first
        product_types=_WITH_PRICES,
        sort=_BEST_FIRST,
    )


def _asins_for(units: int) -> int:
    """Return how many ASINs a page may hold that costs so many tokens of the price list."""
    return max(0, units - finder_price(0)) * 100


def _standing(outbox: Outbox, rule: DiscoveryRule) -> tuple[int, int]:
    """Return how many more candidates a rule wants, and how many it has of any kind."""
    has = outbox.candidate_counts(rule.name)
    return rule.most - has["accepted"] - has["waiting"] - has["found"], has.total()
