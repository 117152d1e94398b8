"""The one door to Kafka: an idempotent producer, its delivery reports, and the topics.

librdkafka itself tries again for as long as we live (`message.timeout.ms` is 0), without
doubling a message or changing their order. So messages stay with it while the brokers are away:
`send` then only tells that nobody answers, and the next call goes on waiting for the same
messages instead of producing them again. No call here runs in trio's thread.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import trio
from confluent_kafka import (
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, but not declared so
    AclOperation,
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from pricecheck import config
from pricecheck.deliver.sink import Limits, Receipt, SinkAwayError, SinkBusyError, SinkError
from pricecheck.errors import ConfigError
from pricecheck.logs import kv, redact
from pricecheck.outbox import Stored
from pricecheck.records import SCHEMA_VERSION, Record

log = logging.getLogger(__name__)
_librdkafka = logging.getLogger(f"{__name__}.librdkafka")


def _quieten(record: logging.LogRecord) -> bool:
    """Let a failed connection, and what it says it tries again, be matters for debugging only.

    An outage would fill the log with them, and the relay has told of it already.
    """
    said = record.getMessage()
    if said.startswith(("FAIL [", "ERROR [")) or said.endswith(": retrying"):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return _librdkafka.isEnabledFor(record.levelno)


_librdkafka.addFilter(_quieten)

BATCH_RECORDS: Final = 10_000
BATCH_BYTES: Final = 8_000_000
PATIENCE_S: Final = 4.0
"""How long `send` waits without a single report before it says that nobody answers."""

ANSWERS_WITHIN_S: Final = 5.0
_POLL_S: Final = 0.1  # how soon a cancellation is noticed
_SOON_S: Final = 0.001
_ROOM: Final = 4 * 1024 * 1024  # what a bestseller list of Keepa's longest needs
_BROKERS_DEFAULT_MAX: Final = 1_048_588
_OVERHEAD: Final = 1_024  # of a batch around its messages, generously

# What is wrong with a message itself, by Kafka's error codes.
_REFUSED: Final = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_MSG_SIZE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.POLICY_VIOLATION,
)
# Only of these may one message have taken its neighbours with it, for brokers judge batches.
_OF_THE_BATCH: Final = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
_NO_TOPIC: Final = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
)
_Header: TypeAlias = tuple[str, str | bytes | None]
_SECRET_WORDS: Final = ("password", "secret", "token", "pem", "jaas", "oauthbearer.config")
_SCHEMA: Final[_Header] = ("schema", str(SCHEMA_VERSION).encode())

_SAID_AGAIN_S: Final = 3600.0

T = TypeVar("T")


class _OnceAnHour(logging.Filter):
    """Lets a line pass once an hour, whatever its figures: librdkafka repeats itself by the second.

    That the brokers are away, the relay says.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        line = re.sub(r"\d+", "", record.getMessage())
        now = time.monotonic()
        if now - self._said.get(line, -math.inf) < _SAID_AGAIN_S:
            return False
        self._said[line] = now
        return True

    def forget(self) -> None:
        """Let every line pass again: the brokers are there, so the next trouble is a new one."""
        self._said.clear()


_once_an_hour = _OnceAnHour()
_librdkafka.addFilter(_once_an_hour)


class KafkaSink:
    """Delivers to the topics of one cluster."""

    name = "kafka"

    def __init__(
        self,
        settings: config.Kafka,
        names: config.Names,
        *,
        sasl_password: str | None = None,
    ) -> None:
        self.limits = Limits(BATCH_RECORDS, BATCH_BYTES)
        self.notes: list[str] = []
        self.topics: list[str] = []  # all that the brokers have, as of the last connect
        self._settings = settings
        self._topics = names.by_kind()
        self._routes: dict[str, tuple[str, _Header]] = {
            kind: (topic, ("kind", kind)) for kind, topic in self._topics.items()
        }
        self._options = _options(settings, sasl_password)
        self._producer: Producer | None = None
        self._handed_over = 0  # the last seq of the batch under way that librdkafka was given
        self._failed: dict[int, KafkaError] = {}  # by seq, those of that batch
        self._said: str | None = None  # librdkafka's last error

    async def connect(self) -> str:
        """Find the brokers, and make or check the topics."""
        limits, notes, brokers = await _in_thread(self._check_topics)
        self.notes = notes
        _once_an_hour.forget()
        if self._producer is None:
            self._producer = await _in_thread(partial(self._open, limits))
        return f"Kafka at {brokers}"

    async def last_write(self, topic: str) -> int | None:
        """Return when a topic last got a message, in Unix milliseconds; None if nobody knows."""
        return await _in_thread(partial(self._last_write, topic))

    async def not_writable(self) -> list[str]:
        """Return those of our topics that we have no right to write to, as the brokers tell."""
        return await _in_thread(self._not_writable)

    async def send(self, batch: Sequence[Stored]) -> Receipt:
        """Produce what is not with librdkafka yet, and wait until every message is settled."""
        assert self._producer is not None  # the relay connects first
        return await trio.to_thread.run_sync(self._send, self._producer, batch)

    async def close(self) -> None:
        """Give what is under way a moment to arrive, then forget the rest: it is sent again."""
        producer, self._producer = self._producer, None
        self._forget_batch()
        if producer is not None:
            await _in_thread(partial(_close, producer))

    # What follows runs in threads, one at a time.

    def _open(self, limits: dict[str, int]) -> Producer:
        # No batch of several messages is larger than what every topic takes. So a broker refuses
        # single messages only, and none for its neighbours' sake.
        least = min(limits.values(), default=_BROKERS_DEFAULT_MAX)
        most = max(limits.values(), default=_BROKERS_DEFAULT_MAX)
        sizes = {
            "message.max.bytes": min(max(most, 1_000), 1_000_000_000),
            "batch.size": max(min(1_000_000, least - _OVERHEAD), 1),
        }
        # What has arrived needs no callback: it is what is neither queued nor failed.
        reports = {"delivery.report.only.error": True}
        options = _OURS | sizes | self._options | reports
        return Producer(options, logger=_librdkafka, error_cb=self._note_error)

    def _admin(self) -> AdminClient:
        admin = AdminClient(_CLIENT | self._options, logger=_librdkafka, error_cb=self._note_error)
        admin.poll(0)
        return admin

    def _check_topics(self) -> tuple[dict[str, int], list[str], str]:
        """Return the largest message of each topic, what else is to be said, and the brokers."""
        admin = self._admin()
        try:
            found = admin.list_topics(timeout=ANSWERS_WITHIN_S)
            self.topics = sorted(found.topics)
            missing = {name for name in self._topics.values() if name not in found.topics}
            if missing and self._settings.create_topics:
                self._make_topics(admin, missing)
            elif missing:
                raise SinkBusyError(
                    f"Kafka has no topic {min(missing)}",
                    remedy="make it, or run pricecheck with kafka.create_topics = true",
                )
        except KafkaException as error:
            admin.poll(0)
            raise self._explain(error.args[0]) from None
        except TimeoutError:
            raise SinkAwayError("Kafka does not answer whether it made the topics") from None
        notes = [
            f"the topic {name} has {len(topic.partitions)} partitions, not "
            f"{self._settings.partitions}: left as it is"
            for name, topic in sorted(found.topics.items())
            if name in self._topics.values() and len(topic.partitions) != self._settings.partitions
        ]
        brokers = ", ".join(f"{one.host}:{one.port}" for one in found.brokers.values())
        return self._largest_messages(admin, missing), notes, brokers

    def _last_write(self, topic: str) -> int | None:
        admin = self._admin()
        try:
            partitions = admin.list_topics(topic, timeout=ANSWERS_WITHIN_S).topics[topic].partitions
            latest = OffsetSpec.max_timestamp()  # type: ignore[no-untyped-call]
            newest = {TopicPartition(topic, one): latest for one in partitions}
            answers = admin.list_offsets(newest, request_timeout=ANSWERS_WITHIN_S).values()
            times = [answer.result(ANSWERS_WITHIN_S).timestamp for answer in answers]
        except (KafkaException, TimeoutError):  # older brokers know no such question
            return None
        return max((time for time in times if time > 0), default=None)

    def _not_writable(self) -> list[str]:
        topics = TopicCollection(sorted(self._topics.values()))
        admin = self._admin()  # which has to live until it is answered
        answers = admin.describe_topics(
            topics, include_authorized_operations=True, request_timeout=ANSWERS_WITHIN_S
        )
        refused = []
        for name, answer in answers.items():
            try:
                allowed = answer.result(ANSWERS_WITHIN_S).authorized_operations
            except (KafkaException, TimeoutError):
                continue  # connecting tells of it
            if allowed and AclOperation.WRITE not in allowed:
                refused.append(name)
        return refused

    def _make_topics(self, admin: AdminClient, missing: set[str]) -> None:
        settings = {"max.message.bytes": str(_ROOM)}
        if self._settings.retention is not None:
            settings["retention.ms"] = str(self._settings.retention * 1000)
        replication = self._settings.replication or -1
        wanted = [
            NewTopic(name, self._settings.partitions, replication, config=settings)
            for name in sorted(missing)
        ]
        for name, made in admin.create_topics(wanted, request_timeout=ANSWERS_WITHIN_S).items():
            try:
                made.result(ANSWERS_WITHIN_S)
                log.info("topic made", extra=kv(topic=name))
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def _largest_messages(self, admin: AdminClient, made: set[str]) -> dict[str, int]:
        """Ask each topic's limit; whoever may not ask, or can't, gets the brokers' default.

        A broker may not know of a topic yet that we have just made: its limit is ours.
        """
        topics = [ConfigResource(ResourceType.TOPIC, name) for name in self._topics.values()]
        found: dict[str, int] = {}
        patient_until = time.monotonic() + ANSWERS_WITHIN_S
        answers = admin.describe_configs(topics, request_timeout=ANSWERS_WITHIN_S)
        for resource, answer in answers.items():
            try:
                settings = answer.result(max(0.0, patient_until - time.monotonic()))
                found[resource.name] = int(settings["max.message.bytes"].value)
            except (KafkaException, KeyError, TimeoutError):
                default = _ROOM if resource.name in made else _BROKERS_DEFAULT_MAX
                found[resource.name] = default
        return found

    def _send(self, producer: Producer, batch: Sequence[Stored]) -> Receipt:
        self._hand_over(producer, batch)
        self._wait(producer)
        if gone := [one for one in self._failed.values() if one.code() in _NO_TOPIC]:
            raise SinkAwayError(f"a topic is gone: {_words(gone[0])}")  # connecting makes it anew
        # A batch that a broker found too large may hold messages that are not: each by itself.
        for stored in batch if len(self._failed) > 1 else ():
            error = self._failed.get(stored.seq)
            if error is not None and error.code() in _OF_THE_BATCH:
                self._hand_over(producer, [stored])
                self._wait(producer)
        refused: dict[int, str] = {}
        again: dict[int, str] = {}
        for place, stored in enumerate(batch if self._failed else ()):
            if error := self._failed.get(stored.seq):
                (refused if error.code() in _REFUSED else again)[place] = _words(error)
        self._forget_batch()
        return Receipt(refused, again)

    def _hand_over(self, producer: Producer, batch: Sequence[Stored]) -> None:
        """Produce what librdkafka does not have yet: the busiest loop of all."""
        produce, routes, failed = producer.produce, self._routes, self._failed
        last = self._handed_over
        try:
            for stored in batch:
                seq, record = stored.seq, stored.record
                if seq <= last and seq not in failed:
                    continue  # it has this one of a batch begun earlier
                topic, kind = routes[record.kind]
                headers = [("id", record.id), kind, _SCHEMA]
                told = partial(_note_failure, failed, seq)
                while True:
                    try:
                        produce(topic, record.body, record.key, headers=headers, on_delivery=told)
                    except BufferError:  # its queue is full: wait until some of it has arrived
                        self._wait_for_room(producer, record)
                        continue
                    except KafkaException as error:  # too large for librdkafka, or a dead producer
                        failed[seq] = error.args[0]
                    else:
                        if seq <= last:
                            failed.pop(seq, None)
                    break
                last = max(last, seq)
        finally:
            self._handed_over = last

    def _wait_for_room(self, producer: Producer, record: Record) -> None:
        if not len(producer):
            raise SinkBusyError(
                f"{record.kind} {record.id} does not fit into librdkafka's queue",
                remedy="raise queue.buffering.max.kbytes in kafka.options",
            )
        self._wait(producer, room=True)

    def _wait(self, producer: Producer, *, room: bool = False) -> None:
        """Wait until every message is settled, or (`room`) until one is."""
        progress_at = time.monotonic()
        while before := len(producer):
            trio.from_thread.check_cancelled()
            # Unlike poll, it lets no message linger. No report tells it of what has arrived, so it
            # looks every 10 ms, which a batch is too quick for; an outage is looked at less often.
            waited_s = time.monotonic() - progress_at
            left = producer.flush(min(max(_SOON_S, waited_s / 10), _POLL_S))
            self._check_fatal(producer)
            if left < before:
                self._said = None
                progress_at = time.monotonic()
                if room:
                    return
            elif waited_s > PATIENCE_S:
                raise SinkAwayError(
                    f"Kafka does not answer: {self._said or 'no delivery report'}",
                    remedy="the daemon tries again; see whether it runs, or mend kafka.brokers",
                )
        self._check_fatal(producer)

    def _forget_batch(self) -> None:
        self._handed_over = 0
        self._failed = {}  # another: late reports of a closed producer are of the old one

    def _check_fatal(self, producer: Producer) -> None:
        """Give up a producer that librdkafka calls dead; the next sends what this one held."""
        fatal = next((error for error in self._failed.values() if error.fatal()), None)
        if fatal is not None:
            self._producer = None
            producer.purge()
            producer.poll(0)  # reports all that it held as failed
            raise SinkAwayError(f"librdkafka gave up: {_words(fatal)}")

    def _note_error(self, error: KafkaError) -> None:
        """Keep what librdkafka complains of; the log has it already."""
        self._said = _words(error)

    def _explain(self, error: KafkaError) -> SinkError:
        where = ", ".join(self._settings.brokers)
        if error.code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
            reason = self._said or _words(error)
            return SinkAwayError(
                f"no connection to Kafka at {where}: {reason}",
                remedy="the daemon tries again; see whether it runs, or mend kafka.brokers",
            )
        if error.retriable():
            return SinkAwayError(f"Kafka at {where} is not ready: {_words(error)}")
        return SinkBusyError(f"Kafka at {where} refuses: {_words(error)}")


_CLIENT: Final[dict[str, Any]] = {
    "client.id": "pricecheck",
    # A broker that is back should not wait.
    "reconnect.backoff.ms": 100,
    "reconnect.backoff.max.ms": 2_000,
    "log.connection.close": False,
}
_OURS: Final[dict[str, Any]] = _CLIENT | {
    "enable.idempotence": True,
    "acks": "all",
    "message.timeout.ms": 0,
    "linger.ms": 5,
    "compression.type": "lz4",
}


def check_options(settings: config.Kafka, *, sasl_password: str | None = None) -> None:
    """Raise ConfigError for an option that librdkafka does not know or can't take."""
    try:
        Producer(_OURS | _options(settings, sasl_password), logger=_librdkafka)
    except KafkaException as error:
        raise ConfigError(
            f"kafka.options: {_words(error.args[0])}",
            remedy="the names and values are librdkafka's; see its CONFIGURATION.md",
        ) from None


def _options(settings: config.Kafka, sasl_password: str | None) -> dict[str, Any]:
    """Return what the operator sets, with every secret in it kept out of the log."""
    options: dict[str, Any] = {"bootstrap.servers": ",".join(settings.brokers), **settings.options}
    if sasl_password is not None:
        options["sasl.password"] = sasl_password
    for name, value in options.items():
        if any(word in name for word in _SECRET_WORDS):
            redact(str(value))
    return options


def _words(error: KafkaError) -> str:
    """Return Kafka's own words for an error."""
    return f"{error.name()}: {error.str()}"


def _note_failure(
    failed: dict[int, KafkaError], seq: int, error: KafkaError, message: Message
) -> None:
    """Note a message that failed; of one that arrived there is no report."""
    del message
    failed[seq] = error


def _close(producer: Producer) -> None:
    producer.flush(1.0)
    producer.purge()
    producer.poll(0)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run what ends by itself within some seconds; cancelled, let it end alone."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)
