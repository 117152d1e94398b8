"""What topics and indices hold, read by clients of the tests' own."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
from confluent_kafka import Consumer, Message, TopicPartition


def read_topics(address: str, topics: Sequence[str]) -> list[str]:
    """Return the record ids in the topics' messages, from the beginning to the end of now."""
    return [message_id(message) for message in read_messages(address, topics)]


def message_id(message: Message) -> str:
    """Return the id of the record that a message carries."""
    id_ = dict(message.headers() or ())["id"]
    assert isinstance(id_, bytes)
    return id_.decode()


def read_messages(address: str, topics: Sequence[str]) -> list[Message]:
    """Return the topics' messages, each partition in its order."""
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
        found: list[Message] = []
        while len(found) < expected:
            for message in consumer.consume(min(10_000, expected - len(found)), timeout=5):
                assert message.error() is None, message.error()
                found.append(message)
        return found
    finally:
        consumer.close()


def elasticsearch_ids(address: str, index: str) -> list[str]:
    """The ids of all documents, page by page."""
    with httpx.Client(base_url=address, timeout=60) as node:
        node.post(f"/{index}/_refresh").raise_for_status()
        query = {"size": 10_000, "_source": False, "sort": ["_doc"]}
        page = node.post(f"/{index}/_search?scroll=1m", json=query).json()
        found: list[str] = []
        while hits := page["hits"]["hits"]:
            found += [hit["_id"] for hit in hits]
            page = node.post(
                "/_search/scroll", json={"scroll": "1m", "scroll_id": page["_scroll_id"]}
            ).json()
        return found
