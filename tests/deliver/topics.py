"""What a topic holds, read by a consumer of the test's own."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Consumer, TopicPartition


def read_topics(address: str, topics: Sequence[str]) -> list[str]:
    """Return the record ids in the topics' messages, from the beginning to the end of now."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "test"})
    try:
        known = consumer.list_topics(timeout=30).topics
        ends = {
            (topic, number): consumer.get_watermark_offsets(TopicPartition(topic, number))
            for topic in topics
            for number in known[topic].partitions
        }
        consumer.assign([TopicPartition(*place, low) for place, (low, _) in ends.items()])
        expected = sum(high - low for low, high in ends.values())
        found: list[str] = []
        while len(found) < expected:
            for message in consumer.consume(10_000, timeout=5):
                assert message.error() is None, message.error()
                id_ = dict(message.headers() or ())["id"]
                assert isinstance(id_, bytes)
                found.append(id_.decode())
        return found
    finally:
        consumer.close()
