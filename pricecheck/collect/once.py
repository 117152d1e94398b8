"""A check of some products now, for the command line: beside the daemon, or without one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from pricecheck.bucket import Bucket
from pricecheck.collect.alerts import mates
from pricecheck.collect.calls import CallLog, open_client
from pricecheck.collect.deals import DerivedDeals
from pricecheck.collect.digest import digest_products
from pricecheck.collect.products import Lesson, product_query, recall
from pricecheck.collect.spending import Priority, Spender
from pricecheck.config import Settings
from pricecheck.keepa.client import ProductQuery, ProductsAnswer
from pricecheck.keepa.tables import BY_CODE, MAX_ASINS
from pricecheck.needs import prior_costs
from pricecheck.outbox import Commit, DeadLetter, Outbox
from pricecheck.supervisor import Heartbeat
from pricecheck.watchlist import Watch, profiles


class Checked(msgspec.Struct):
    """What a check has brought so far."""

    lessons: dict[str, Lesson]  # by ASIN
    set_aside: list[DeadLetter]  # products whose answer could not be read


async def check_once(
    settings: Settings,
    key: str,
    watches: Sequence[Watch],
    outbox: Outbox,
    tell: Callable[[int, str], None],
) -> Checked:
    """Check products of one marketplace, as many at a time as bucket and API take.

    What is learned is committed as the daemon would. `tell` is told how many products are done,
    and what is waited for. Raises KeepaError when Keepa brings nothing.
    """
    config = settings.config
    prices = config.prices
    market = BY_CODE[watches[0].domain]
    calls = CallLog(config.time)
    checked = Checked({}, [])

    def keep(some: Sequence[Watch], query: ProductQuery, answer: ProductsAnswer) -> Commit:
        asins = [watch.asin for watch in some]
        wanted = [*asins, *mates(config.alert_rules, market.code, asins)]
        stored = outbox.states(market.code, wanted)
        digest = digest_products(
            answer,
            some,
            {asin: recall(body) for asin, body in stored.items()},
            now_ms=config.time.now_ms(),
            lookback_s=prices.lookback,
            derived=DerivedDeals(),
            query=query,
            rules=config.alert_rules,
        )
        checked.lessons.update((lesson.asin, lesson) for lesson in digest.lessons)
        checked.set_aside += digest.commit.dead_letters
        return digest.commit

    async with open_client(settings, key, calls) as client:
        costs = prior_costs(config, watches)
        bucket = Bucket(max_call_cost=config.keepa.max_call_cost, costs=costs)
        spender = Spender(client, bucket, outbox, calls, config.time)
        await spender.settle_doubts()
        done = 0
        heartbeat = Heartbeat(math.inf, lambda: tell(done, heartbeat.why))
        for extras in profiles(watches):
            left = [watch for watch in watches if watch.extras == extras]
            query = product_query(prices.stats_days, extras, [None], config.time.now_ms())
            while left:
                most = max(1, min(MAX_ASINS, bucket.limit // bucket.estimate(extras.operation)))
                some, left = left[:most], left[most:]
                names = [watch.asin for watch in some]
                await spender.spend(
                    extras.operation,
                    len(some),
                    Priority.PRICES,
                    heartbeat,
                    send=partial(client.products, market, names, query),
                    keep=partial(keep, some, query),
                )
                done += len(some)
                tell(done, "")
    return checked
