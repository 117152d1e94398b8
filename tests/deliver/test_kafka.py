"""Tests of pricecheck/deliver/kafka.py against librdkafka's own mock brokers, on real sockets."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from pricecheck import logs
from pricecheck.config import Kafka, Names
from pricecheck.deliver import kafka
from pricecheck.deliver.kafka import KafkaSink, check_options
from pricecheck.deliver.relay import Relay
from pricecheck.deliver.sink import Receipt, SinkAwayError, SinkBusyError
from pricecheck.errors import ConfigError
from pricecheck.outbox import Outbox
from tests.deliver.conftest import change, drained, metric, put, running, stored

NOBODY = "127.0.0.1:9"
Open = Callable[..., KafkaSink]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Producer]:
    """Three mock brokers, which live as long as their producer."""
    cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3})
    yield cluster
    del cluster


@pytest.fixture(scope="module")
def mock_brokers(cluster: Producer) -> str:
    """The addresses of the mock brokers."""
    found = cluster.list_topics(timeout=10).brokers.values()
    return ",".join(f"{one.host}:{one.port}" for one in found)


@pytest.fixture
async def open_sink(
    cluster: Producer, mock_brokers: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Open]:
    """Make a sink for the mock brokers; it is closed with the test."""
    for topic in names.by_kind().values():
        cluster.list_topics(topic, timeout=10)  # mock brokers can make topics in this way only
    monkeypatch.setattr(kafka, "ANSWERS_WITHIN_S", 1.0)
    # Nor do they answer what the largest message is.
    monkeypatch.setattr(KafkaSink, "_largest_messages", lambda *_: {})
    async with AsyncExitStack() as sinks:

        def make(brokers: str = mock_brokers, **settings: Any) -> KafkaSink:
            sink = KafkaSink(Kafka(brokers=(brokers,), **settings), names)
            sinks.push_async_callback(sink.close)
            return sink

        yield make


@pytest.fixture
def slow_brokers(names: Names) -> Iterator[str]:
    """A mock broker that lets everybody wait."""
    cluster = Producer(
        {"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "test.mock.broker.rtt": 200}
    )
    for topic in names.by_kind().values():
        cluster.list_topics(topic, timeout=10)
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    yield f"{broker.host}:{broker.port}"
    del cluster


def consume(brokers: str, topic: str, count: int) -> list[Message]:
    """Read that many messages of a topic from its beginning."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "test"})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        found: list[Message] = []
        while len(found) < count:
            message = consumer.poll(10)
            assert message is not None, f"{len(found)} of {count} messages"
            found.append(message)
        return found
    finally:
        consumer.close()


async def test_a_message_holds_body_key_and_headers(
    open_sink: Open, mock_brokers: str, names: Names
) -> None:
    """Topic by kind, key by ASIN, the JSON as it is; id, kind and schema in the headers."""
    record = change(7)
    sink = open_sink()

    await sink.connect()
    receipt = await sink.send(stored(record, metric()))

    [message] = consume(mock_brokers, names.by_kind()["change"], 1)
    assert receipt == Receipt()
    assert message.value() == record.body
    assert message.key() == b"B000000007"
    assert dict(message.headers() or ()) == {
        "id": record.id.encode(),
        "kind": b"change",
        "schema": b"1",
    }


async def test_messages_of_a_key_keep_their_order(
    open_sink: Open, mock_brokers: str, names: Names
) -> None:
    """In one partition, in the order of the outbox, over several batches."""
    batch = stored(*(change(number, asin=f"B{number % 5:09}") for number in range(500)))
    sink = open_sink()

    await sink.connect()
    await sink.send(batch[:250])
    await sink.send(batch[250:])

    found: dict[bytes, list[bytes]] = {}
    for message in consume(mock_brokers, names.by_kind()["change"], 500):
        found.setdefault(message.key() or b"", []).append(message.value() or b"")
    assert found == {
        one.record.key.encode(): [
            other.record.body for other in batch if other.record.key == one.record.key
        ]
        for one in batch[:5]
    }


async def test_nobody_there_is_an_error_that_is_tried_again_soon(open_sink: Open) -> None:
    """Connecting says who does not answer, and can be tried for ever."""
    sink = open_sink(NOBODY)

    for _ in range(2):
        with pytest.raises(SinkAwayError, match=rf"no connection to Kafka at {NOBODY}"):
            await sink.connect()


async def test_a_full_local_queue_is_waited_for(open_sink: Open) -> None:
    """Backpressure, and no error: the batch is far larger than the queue."""
    sink = open_sink(options={"queue.buffering.max.messages": 50})

    await sink.connect()
    receipt = await sink.send(stored(*map(change, range(400))))

    assert receipt == Receipt()


async def test_a_message_above_the_limit_is_refused_and_its_neighbours_arrive(
    open_sink: Open, mock_brokers: str, names: Names
) -> None:
    """The sink's own reason, for that record alone."""
    sink = open_sink(options={"message.max.bytes": 5_000})
    batch = stored(change(1), change(2, title="x" * 9_000), change(3))

    await sink.connect()
    receipt = await sink.send(batch)

    assert list(receipt.refused) == [1]
    assert "MSG_SIZE_TOO_LARGE" in receipt.refused[1]
    arrived = consume(mock_brokers, names.by_kind()["change"], 2)
    assert {message.value() for message in arrived} == {batch[0].record.body, batch[2].record.body}


async def test_messages_of_a_batch_that_hangs_are_not_produced_twice(
    open_sink: Open,
    slow_brokers: str,
    names: Names,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tried again, the sink waits for the messages that librdkafka has already."""
    monkeypatch.setattr(kafka, "PATIENCE_S", 0.0)
    monkeypatch.setattr(kafka, "ANSWERS_WITHIN_S", 10.0)
    sink = open_sink(slow_brokers)
    batch = stored(*map(change, range(20)))
    await sink.connect()
    with pytest.raises(SinkAwayError, match="Kafka does not answer"):
        await sink.send(batch)
    monkeypatch.setattr(kafka, "PATIENCE_S", 20.0)

    receipt = await sink.send(batch)
    await sink.send(stored(*[one.record for one in batch], change(99))[20:])

    assert receipt == Receipt()
    arrived = [message.value() for message in consume(slow_brokers, names.by_kind()["change"], 21)]
    assert sorted(filter(None, arrived)) == sorted(
        [*(one.record.body for one in batch), change(99).body]
    )


async def test_what_a_close_that_is_cut_off_has_lost_is_sent_again(
    open_sink: Open, slow_brokers: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another producer has nothing of what the old one was given."""
    monkeypatch.setattr(kafka, "PATIENCE_S", 0.0)
    monkeypatch.setattr(kafka, "ANSWERS_WITHIN_S", 10.0)
    sink = open_sink(slow_brokers)
    batch = stored(change(1))
    await sink.connect()
    with pytest.raises(SinkAwayError, match="Kafka does not answer"):
        await sink.send(batch)
    monkeypatch.setattr(kafka, "PATIENCE_S", 20.0)

    def lose(producer: Producer) -> None:
        producer.purge()
        time.sleep(2.0)
        producer.poll(0)  # only now it reports

    with monkeypatch.context() as patch, trio.move_on_after(0.1) as patience:
        patch.setattr(kafka, "_close", lose)
        await sink.close()
    await sink.connect()
    receipt = await sink.send(batch)

    assert patience.cancelled_caught
    assert receipt == Receipt()
    (arrived,) = consume(slow_brokers, names.by_kind()["change"], 1)
    assert arrived.value() == change(1).body


class GoneTopic:
    """What librdkafka does with a queue of two messages; no mock broker can delete a topic."""

    def __init__(self) -> None:
        self.state = "no topic"
        self.queue: list[tuple[bytes, Callable[..., None]]] = []
        self.arrived: list[bytes] = []

    def __len__(self) -> int:
        return len(self.queue)

    def produce(self, topic: str, value: bytes, key: str, **more: Any) -> None:
        if len(self.queue) == 2:
            raise BufferError("Local: Queue full")
        self.queue.append((value, more["on_delivery"]))

    def flush(self, timeout: float) -> int:
        if self.state == "no topic":
            for _, told in self.queue:
                told(KafkaError(KafkaError._UNKNOWN_TOPIC), None)
            self.queue.clear()
        elif self.state == "up":
            self.arrived += [value for value, _ in self.queue]
            self.queue.clear()
        return len(self.queue)

    poll = flush


async def test_what_has_failed_and_finds_no_room_is_not_taken_for_arrived(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A topic is deleted; when its messages are produced anew, the brokers go away."""
    monkeypatch.setattr(kafka, "PATIENCE_S", 0.05)
    sink = KafkaSink(Kafka(), Names())
    producer = GoneTopic()
    sink._producer = producer  # type: ignore[assignment]
    batch = stored(*map(change, range(10)))

    with pytest.raises(SinkAwayError, match="a topic is gone"):
        await sink.send(batch)
    producer.state = "down"
    for _ in range(3):
        with pytest.raises(SinkAwayError, match="does not answer"):
            await sink.send(batch)
    producer.state = "up"

    assert await sink.send(batch) == Receipt()
    assert sorted(producer.arrived) == sorted(one.record.body for one in batch)


async def test_a_send_can_be_cancelled(
    open_sink: Open, slow_brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a moment, though librdkafka would wait for ever."""
    monkeypatch.setattr(kafka, "ANSWERS_WITHIN_S", 10.0)
    sink = open_sink(slow_brokers)
    await sink.connect()

    with trio.move_on_after(0.05) as patience:
        await sink.send(stored(change(1)))

    assert patience.cancelled_caught


async def test_no_call_runs_in_trios_thread(
    open_sink: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that is thought to be quick may hold up the event loop."""
    seen: set[threading.Thread] = set()

    class Noted(Producer):
        def produce(self, *args: Any, **kwargs: Any) -> None:
            seen.add(threading.current_thread())
            super().produce(*args, **kwargs)

        def poll(self, timeout: float = -1) -> int:
            seen.add(threading.current_thread())
            return super().poll(timeout)

        def flush(self, timeout: float = -1) -> int:
            seen.add(threading.current_thread())
            return super().flush(timeout)

    monkeypatch.setattr(kafka, "Producer", Noted)
    sink = open_sink()

    await sink.connect()
    await sink.send(stored(change(1)))
    await sink.close()

    assert seen
    assert threading.current_thread() not in seen


async def test_a_dead_producer_is_replaced(
    open_sink: Open, mock_brokers: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an error that librdkafka calls fatal, a new producer sends what the old one held."""

    class Dying(Producer):
        def flush(self, timeout: float = -1) -> int:
            self.purge()
            return super().flush(timeout)

    sink = open_sink()
    fatal = KafkaError(KafkaError._FENCED, "made up", fatal=True)
    plain = kafka._note_failure
    monkeypatch.setattr(
        kafka, "_note_failure", lambda failed, seq, _, message: plain(failed, seq, fatal, message)
    )
    monkeypatch.setattr(kafka, "Producer", Dying)
    await sink.connect()

    with pytest.raises(SinkAwayError, match="librdkafka gave up"):
        await sink.send(stored(change(1)))
    monkeypatch.setattr(kafka, "Producer", Producer)
    await sink.connect()
    receipt = await sink.send(stored(change(1)))

    assert receipt == Receipt()
    assert consume(mock_brokers, names.by_kind()["change"], 1)


async def test_a_relay_drains_into_it(
    outbox: Outbox, open_sink: Open, mock_brokers: str, names: Names
) -> None:
    """Both together, with no duplicate."""
    put(outbox, *map(change, range(3_000)))
    relay = Relay(open_sink(), outbox)

    async with running(relay):
        await drained(relay)

    messages = consume(mock_brokers, names.by_kind()["change"], 3_000)
    assert len({dict(message.headers() or ())["id"] for message in messages}) == 3_000


async def test_its_log_lines_go_to_our_log(
    open_sink: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """librdkafka's complaints stand where everything else does, under a name of their own."""
    sink = open_sink(NOBODY)

    with caplog.at_level(logging.DEBUG), pytest.raises(SinkAwayError):
        await sink.connect()

    said = [one for one in caplog.records if one.name == "pricecheck.deliver.kafka.librdkafka"]
    assert any("Connection refused" in one.getMessage() for one in said)


@pytest.mark.parametrize(
    "line", ["FAIL [thrd:x]: x: Connect failed", "GETPID [thrd:x]: Coordinator load: retrying"]
)
def test_what_is_tried_again_is_no_warning(line: str, caplog: pytest.LogCaptureFixture) -> None:
    """A broker that is just starting needs nobody; what never comes right, the relay tells."""
    with caplog.at_level(logging.INFO):
        logging.getLogger("pricecheck.deliver.kafka.librdkafka").warning(line)

    assert not caplog.records


async def test_topics_that_nobody_made_are_asked_for(mock_brokers: str) -> None:
    """Where topics are a person's business, the error names the first that is missing."""
    settings = Kafka(brokers=(mock_brokers,), create_topics=False)
    sink = KafkaSink(settings, Names(prefix="nobody-s-"))

    with pytest.raises(SinkBusyError, match="Kafka has no topic nobody-s-keeper-alerts"):
        await sink.connect()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"no.such.option": 1}, 'No such configuration property: "no.such.option"'),
        ({"socket.timeout.ms": "soon"}, "socket.timeout.ms"),
        ({"security.protocol": "carrier pigeon"}, "security.protocol"),
    ],
)
def test_an_option_that_librdkafka_refuses_is_a_config_error(
    options: dict[str, str | int | float | bool], message: str
) -> None:
    """Told before anything starts, in librdkafka's own words."""
    with pytest.raises(ConfigError, match=message):
        check_options(Kafka(options=options))


def test_every_other_option_is_passed_through() -> None:
    """Numbers and truths as TOML has them, in place of our own where they differ."""
    check_options(
        Kafka(
            options={
                "linger.ms": 50,
                "compression.type": "zstd",
                "socket.keepalive.enable": True,
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "me",
            }
        ),
        sasl_password="hush-hush",
    )


@pytest.mark.parametrize(
    "made",
    [
        lambda: KafkaSink(Kafka(), Names(), sasl_password="hush-hush"),
        lambda: KafkaSink(Kafka(options={"sasl.password": "hush-hush"}), Names()),
        lambda: KafkaSink(Kafka(options={"ssl.key.password": "hush-hush"}), Names()),
    ],
    ids=["file", "sasl option", "ssl option"],
)
def test_secrets_are_kept_out_of_the_log(made: Callable[[], KafkaSink]) -> None:
    """From the moment the sink knows them."""
    made()

    assert logs.redacted("it said hush-hush") == "it said ***"
