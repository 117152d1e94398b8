"""A check of some products now, as the command line makes it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trio

from pricecheck.collect.once import check_once
from pricecheck.collect.products import product_query, recall
from pricecheck.config import Config, Keepa, Settings
from pricecheck.extras import Extras
from pricecheck.outbox import Outbox
from pricecheck.timescale import TimeScale

from ..daemons import Service
from .answers import watch


async def test_what_it_learns_the_daemon_need_not_ask_again(
    service: Service, outbox: Outbox
) -> None:
    """What was bought is remembered, so that the next check asks for what is new only."""
    await service.serve()
    config = Config(keepa=Keepa(url=service.url))
    wanted = msgspec.structs.replace(watch(), extras=Extras(buybox=True))

    checked = await check_once(
        Settings(config, Path("pricecheck.toml")), "key", [wanted], outbox, lambda *_: None
    )
    stored = await trio.to_thread.run_sync(outbox.states, "DE", ["B000000001"])

    assert checked.lessons.keys() == {"B000000001"}
    [known] = map(recall, stored.values())
    assert product_query(90, Extras(buybox=True), [known], TimeScale().now_ms()).days == 2
