"""The Kafka sink and a real broker: topics, limits, and a consumer that is not ours."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but not declared so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from pricecheck.config import Duration, Kafka, Names
from pricecheck.deliver.kafka import KafkaSink
from pricecheck.deliver.relay import Relay
from pricecheck.deliver.sink import Receipt
from pricecheck.outbox import Outbox
from tests.deliver.arrived import read_topics
from tests.deliver.conftest import change, deal, drained, metric, put, running, stored, until

pytestmark = pytest.mark.services

Open = Callable[..., KafkaSink]


@pytest.fixture
async def open_sink(kafka_address: str, names: Names) -> AsyncIterator[Open]:
    """Make a sink for the real broker; it is closed with the test."""
    async with AsyncExitStack() as sinks:

        def make(**settings: Any) -> KafkaSink:
            sink = KafkaSink(Kafka(brokers=(kafka_address,), **settings), names)
            sinks.push_async_callback(sink.close)
            return sink

        yield make


@pytest.fixture
def admin(kafka_address: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka_address})


def settings_of(admin: AdminClient, topic: str) -> dict[str, str]:
    [answer] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    return {name: entry.value for name, entry in answer.result(30).items()}


def refuses(address: str, topic: str, size: int) -> bool:
    """Whether the broker refuses a message so large; it heeds a new limit some time later."""
    errors: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": address, "compression.type": "none"})
    producer.produce(
        topic,
        b"x" * size,
        headers={"id": "probe"},
        on_delivery=lambda error, _: errors.append(error),
    )
    producer.flush(30)
    return [error and error.code() for error in errors] == [KafkaError.MSG_SIZE_TOO_LARGE]


async def test_topics_are_made_as_configured(
    open_sink: Open, admin: AdminClient, names: Names
) -> None:
    """All of them, with partitions and retention, and room for the longest bestseller list."""
    sink = open_sink(partitions=2, retention=Duration(3_600))

    peer = await sink.connect()

    # A broker tells of new topics some time after it has made them.
    await until(lambda: set(names.by_kind().values()) <= set(admin.list_topics(timeout=30).topics))
    topics = admin.list_topics(timeout=30).topics
    assert peer.startswith("Kafka at 127.0.0.1:")
    assert {len(topics[name].partitions) for name in names.by_kind().values()} == {2}
    found = settings_of(admin, names.by_kind()["change"])
    assert found["retention.ms"] == "3600000"
    assert int(found["max.message.bytes"]) > 2_000_000


async def test_topics_that_are_there_are_left_as_they_are(
    open_sink: Open, admin: AdminClient, names: Names
) -> None:
    """A person's choice of partitions stands, and is told."""
    topic = names.by_kind()["change"]
    admin.create_topics([NewTopic(topic, 5, 1)])[topic].result(30)
    await until(lambda: topic in admin.list_topics(timeout=30).topics)
    sink = open_sink()

    await sink.connect()

    assert sink.notes == [f"the topic {topic} has 5 partitions, not 3: left as it is"]


async def test_a_message_above_the_topics_limit_is_refused_alone(
    open_sink: Open, admin: AdminClient, names: Names, kafka_address: str, outbox: Outbox
) -> None:
    """It ends in the dead letters with the broker's own reason; its neighbours arrive."""
    topic = names.by_kind()["change"]
    small = {"max.message.bytes": "3000"}
    admin.create_topics([NewTopic(topic, 1, 1, config=small)])[topic].result(30)
    large = change(77, title="x" * 4_000)
    put(outbox, *map(change, range(50)), large, *map(change, range(50, 60)))
    relay = Relay(open_sink(options={"compression.type": "none"}), outbox)

    async with running(relay):
        await drained(relay)

    [letter] = outbox.dead_letters()
    assert (letter.id, letter.reason.partition(":")[0]) == (large.id, "MSG_SIZE_TOO_LARGE")
    assert len(read_topics(kafka_address, [topic])) == 60


async def test_a_limit_lowered_meanwhile_costs_no_neighbour(
    open_sink: Open, admin: AdminClient, names: Names, kafka_address: str
) -> None:
    """The broker then refuses whole batches: each message is tried by itself."""
    topic = names.by_kind()["change"]
    sink = open_sink(partitions=1, options={"compression.type": "none"})
    await sink.connect()
    entry = ConfigEntry("max.message.bytes", "2000", incremental_operation=AlterConfigOpType.SET)
    lower = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([lower])[lower].result(30)
    await until(lambda: refuses(kafka_address, topic, 3_000))
    batch = stored(*map(change, range(20)), change(77, title="x" * 4_000))

    receipt = await sink.send(batch)

    assert list(receipt.refused) == [20]
    arrived = set(read_topics(kafka_address, [topic])) - {"probe"}
    assert arrived == {one.record.id for one in batch[:20]}


async def test_a_longest_bestseller_list_fits(
    open_sink: Open, names: Names, kafka_address: str
) -> None:
    """100,000 ASINs, all that Keepa tells, are more than a broker's usual limit."""
    from pricecheck.records import Bestsellers

    asins = tuple(f"B{number * 7919 % 10**9:09}" for number in range(100_000))
    record = Bestsellers(
        domain="DE",
        category="1",
        observed_at="2026-11-24T12:00:00Z",
        last_update=None,
        total=100_000,
        asins=asins,
    ).record()
    sink = open_sink(options={"compression.type": "none"})
    await sink.connect()

    receipt = await sink.send(stored(record))

    assert len(record.body) > 1_048_588
    assert receipt == Receipt()
    assert len(read_topics(kafka_address, [names.by_kind()["bestseller"]])) == 1


@pytest.mark.skipif(not shutil.which("kcat"), reason="kcat is not installed (Debian: kcat)")
async def test_a_consumer_not_of_ours_reads_the_topics(
    open_sink: Open, kafka_address: str, names: Names
) -> None:
    """kcat sees every key, all headers and the JSON as anybody would."""
    records = [*map(change, range(50)), deal("2026-11-24T12:00:00Z", 5_000), metric()]
    sink = open_sink()
    await sink.connect()
    await sink.send(stored(*records))

    kcat = ["kcat", "-b", kafka_address, "-C", "-e", "-q", "-f", "%k|%h|%s\n", "-t"]
    said = [
        await trio.run_process([*kcat, names.by_kind()[kind]], capture_stdout=True)
        for kind in ("change", "deal", "metric")
    ]

    assert sorted(b"".join(one.stdout for one in said).splitlines()) == sorted(
        f"{one.key}|id={one.id},kind={one.kind},schema=1|{one.body.decode()}".encode()
        for one in records
    )
