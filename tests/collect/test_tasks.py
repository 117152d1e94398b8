"""The collectors of one config, and what the next ones take over from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio

from pricecheck.collect.calls import CallLog
from pricecheck.collect.tasks import Collectors
from pricecheck.config import BestsellersRule, Config, Costs, DealRule, Domain, Keepa
from pricecheck.config import Settings as ConfigSettings
from pricecheck.extras import Extras
from pricecheck.keepa.wire import Envelope
from pricecheck.outbox import Outbox
from pricecheck.supervisor import Supervisor
from pricecheck.watchlist import Watch, Watchlist

from .answers import watch

DE, FR = DealRule(domain=Domain("DE")), DealRule(domain=Domain("FR"))
CONFIG = Config(
    keepa=Keepa(url="https://api.keepa.com"),
    deals=(DE, FR),
    bestsellers=(BestsellersRule(domain=Domain("DE"), category=1),),
)


def collectors(
    nursery: trio.Nursery,
    outbox: Outbox,
    config: Config = CONFIG,
    key: str = "key",
    before: Collectors | None = None,
    watches: tuple[Watch, ...] = (watch(),),
) -> Collectors:
    return Collectors(
        ConfigSettings(config, Path("pricecheck.toml")),
        Watchlist(watches, (), 0),
        key,
        outbox=outbox,
        calls=CallLog(config.time),
        client=cast("Any", None),  # nobody asks Keepa here
        supervisor=Supervisor(nursery),
        before=before,
    )


async def test_each_rule_has_a_task_of_its_own(nursery: trio.Nursery, outbox: Outbox) -> None:
    """Supervised by itself, with its own trouble for status."""
    made = collectors(nursery, outbox)

    made.start()

    names = ["prices", "deals:DE", "deals:FR", "bestsellers:DE:1"]
    assert [task.name for task in made.supervisor.statuses()] == names
    assert [trouble.task for trouble in made.troubles] == names
    nursery.cancel_scope.cancel()


async def test_a_reload_keeps_what_the_bucket_has_learned(
    nursery: trio.Nursery, outbox: Outbox
) -> None:
    """Tokens, costs and the use of others: no new question, no new guess."""
    before = collectors(nursery, outbox)
    before.bucket.confirm(Envelope(timestamp_ms=1, tokens_left=700, refill_rate=20))
    before.bucket.learn("product", 10, 35)

    after = collectors(nursery, outbox, before=before)

    assert not after.bucket.uncertain
    assert after.bucket.state().tokens == 700
    assert after.bucket.estimate("product", 10) == 35


async def test_a_product_that_asks_for_more_has_a_price_at_once(
    nursery: trio.Nursery, outbox: Outbox
) -> None:
    """What the bucket has learned of the others stays."""
    before = collectors(nursery, outbox)
    before.bucket.learn("product", 10, 35)
    dear = msgspec.structs.replace(watch("B000000002"), extras=Extras(offers=20))

    after = collectors(nursery, outbox, before=before, watches=(watch(), dear))

    assert after.bucket.estimate("product", 10) == 35
    assert after.bucket.estimate("product offers=20") == 13


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({}, "another key"),
        ({"keepa": Keepa(url="https://elsewhere.example")}, "key"),
        ({"keepa": Keepa(max_call_cost=50)}, "key"),
        ({"costs": Costs(deal=7)}, "key"),
    ],
)
async def test_another_key_or_other_costs_begin_anew(
    nursery: trio.Nursery, outbox: Outbox, change: dict[str, Any], key: str
) -> None:
    """What was learned under other terms says nothing of these."""
    before = collectors(nursery, outbox)
    before.bucket.confirm(Envelope(timestamp_ms=1, tokens_left=700, refill_rate=20))
    before.derived.rules = frozenset({DE})

    config = msgspec.structs.replace(CONFIG, **change)
    after = collectors(nursery, outbox, config, key, before)

    assert after.bucket.uncertain
    assert after.bucket.state().tokens is None
    assert after.derived.rules == frozenset()


async def test_deals_go_on_being_derived_after_a_reload(
    nursery: trio.Nursery, outbox: Outbox
) -> None:
    """For the rules that are still there."""
    before = collectors(nursery, outbox)
    before.derived.rules = frozenset({DE, FR})

    config = msgspec.structs.replace(CONFIG, deals=(FR,))
    after = collectors(nursery, outbox, config, before=before)

    assert after.derived.rules == {FR}
