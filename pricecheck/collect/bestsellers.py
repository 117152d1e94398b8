"""The bestseller tasks: one category's list, once in a while."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from pricecheck.collect.candidates import Sieve
from pricecheck.collect.periodic import periodically
from pricecheck.collect.spending import Priority, Spender
from pricecheck.collect.trouble import Trouble
from pricecheck.config import BestsellersRule
from pricecheck.keepa.client import BestsellersAnswer
from pricecheck.keepa.time import to_rfc3339, to_unix_ms
from pricecheck.logs import kv
from pricecheck.outbox import Commit
from pricecheck.records import Bestsellers
from pricecheck.supervisor import Heartbeat

log = logging.getLogger(__name__)


async def collect_bestsellers(
    heartbeat: Heartbeat,
    rule: BestsellersRule,
    spender: Spender,
    trouble: Trouble,
    sieves: Sequence[Sieve] = (),
) -> None:
    """Collect a category's best sellers for ever, `rule.every` seconds apart.

    What the sieves of discovery find among them is kept with them.
    """
    category = str(rule.category)

    def keep(answer: BestsellersAnswer) -> Commit:
        now_ms = spender.time.now_ms()
        mark = ((rule.name, now_ms),)
        found = answer.bestsellers
        if found is None:
            log.warning("no bestseller list", extra=kv(domain=rule.domain, category=category))
            return Commit(marks=mark)
        at_ms = (answer.envelope.timestamp_ms if answer.envelope else 0) or now_ms
        update = found.last_update
        record = Bestsellers(
            domain=rule.domain.market.code,
            category=category,
            observed_at=to_rfc3339(at_ms),
            last_update=to_rfc3339(to_unix_ms(update)) if update else None,
            total=len(found.asin_list),
            asins=tuple(found.asin_list[: rule.top]),
        ).record()
        candidates = [one for sieve in sieves for one in sieve.of_list(found.asin_list, now_ms)]
        return Commit(records=(record,), marks=mark, candidates=tuple(candidates))

    async def once() -> int:
        await spender.spend(
            "bestsellers",
            1,
            Priority.BESTSELLERS,
            heartbeat,
            send=lambda: spender.client.bestsellers(rule.domain.market, category),
            keep=keep,
        )
        return rule.every

    await periodically(heartbeat, once, every_s=rule.every, spender=spender, trouble=trouble)
