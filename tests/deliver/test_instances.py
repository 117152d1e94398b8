"""Several daemons that deliver to the same topics and indices, on real servers."""

from __future__ import annotations

import signal
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest

from pricecheck.config import Names
from pricecheck.outbox import open_readonly
from pricecheck.records import Record
from tests.daemons import House, Service
from tests.deliver.arrived import elasticsearch_ids, message_id, read_messages

pytestmark = pytest.mark.services

DOMAINS = ("DE", "UK")
PRODUCTS = [f"B{number:09d}" for number in range(20)]


async def test_instances_share_topics_and_indices(
    kafka_address: str, elasticsearch_url: str, service: Service, names: Names, tmp_path: Path
) -> None:
    """A key and a marketplace each, the same products: all arrives once, in order per product."""
    await service.serve(refill_rate=0)
    houses = []
    for domain in DOMAINS:
        (tmp_path / domain).mkdir()
        house = House(tmp_path / domain, service)
        house.configure(
            prices='lookback = "10d"',
            names=f'prefix = "{names.prefix}"',
            kafka=f'brokers = ["{kafka_address}"]',
            elasticsearch=f'hosts = ["{elasticsearch_url}"]',
        )
        house.watch(PRODUCTS, domain)
        houses.append(house)

    with houses[0].start(KEEPA_API_KEY="one") as one, houses[1].start(KEEPA_API_KEY="two") as two:
        for house in houses:
            await house.status_that(lambda told: told.totals.records >= len(PRODUCTS))
            await house.status_that(lambda told: not any(relay.backlog for relay in told.relays))
        for daemon in (one, two):
            assert await daemon.ends(signal.SIGTERM) == 0

    stored = [kept(house) for house in houses]
    for kind, name in names.by_kind().items():
        messages = read_messages(kafka_address, [name])
        ids = sorted(record.id for records in stored for record in records if record.kind == kind)
        assert sorted(map(message_id, messages)) == ids
        assert sorted(elasticsearch_ids(elasticsearch_url, name)) == ids
        by_key = defaultdict(list)
        for message in messages:
            by_key[message.key()].append(message)
        for key, of_key in by_key.items():
            assert len({message.partition() for message in of_key}) == 1
            for records in stored:
                own = [each.id for each in records if (each.kind, each.key.encode()) == (kind, key)]
                assert [id_ for id_ in map(message_id, of_key) if id_ in own] == own


def kept(house: House) -> list[Record]:
    """What a daemon has stored, in that order."""
    with closing(open_readonly(house.outbox)) as outbox:
        return [one.record for one in outbox.read("nobody", limit=10**6, max_bytes=1 << 40)]
