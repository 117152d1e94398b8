"""The client that the collectors call, and the figures of the calls that were made."""

from __future__ import annotations

from typing import Final

from pricecheck.config import Settings
from pricecheck.keepa.client import Call, KeepaClient, Timeouts
from pricecheck.keepa.time import to_rfc3339
from pricecheck.logs import redacted
from pricecheck.records import Metric, Record
from pricecheck.snapshot import Totals
from pricecheck.timescale import TimeScale

_MOST_UNSAVED: Final = 1_000


def open_client(settings: Settings, key: str, calls: CallLog) -> KeepaClient:
    """Return a client as the config asks for it, that reports its calls to `calls`."""
    keepa, time = settings.config.keepa, settings.config.time
    # Time-outs are the network's, so they are meant in real time.
    seconds = (keepa.connect_timeout, keepa.read_timeout, keepa.call_timeout)
    timeouts = Timeouts(*(each * time.factor for each in seconds))
    return KeepaClient(key, url=keepa.url, timeouts=timeouts, on_call=calls.note)


class CallLog:
    """Every call of the client, as metric records on their way to the outbox."""

    def __init__(self, time: TimeScale) -> None:
        self._time = time
        self._unsaved: list[Record] = []
        self._calls = self._failed = self._tokens = self._products = self._records = 0

    def note(self, call: Call) -> None:
        """Take a call's figures; the client's `on_call`."""
        envelope = call.envelope
        consumed = envelope.tokens_consumed if envelope else None
        self._calls += 1
        self._failed += call.error is not None
        self._tokens += consumed or 0
        self._products += call.asin_count if call.error is None else 0
        metric = Metric(
            timestamp=to_rfc3339(self._time.now_ms()),
            operation=call.operation,
            tokens_consumed=consumed,
            tokens_left=envelope.tokens_left if envelope else None,
            refill_rate=envelope.refill_rate if envelope else None,
            refill_in=envelope.refill_in_ms if envelope else None,
            response_time_ms=call.response_time_ms,
            processing_time_ms=envelope.processing_time_ms if envelope else None,
            asin_count=call.asin_count,
            domain=call.domain,
            success=call.error is None,
            status=call.status,
            error=redacted(call.error) if call.error is not None else None,
        )
        self._unsaved.append(metric.record())

    def note_records(self, count: int) -> None:
        """Count records that were committed."""
        self._records += count

    def drain(self) -> tuple[Record, ...]:
        """Hand over the metrics not yet committed."""
        unsaved, self._unsaved = tuple(self._unsaved), []
        return unsaved

    def put_back(self, metrics: tuple[Record, ...]) -> None:
        """Take metrics back that could not be committed; the oldest go when they become many."""
        self._unsaved = [*metrics, *self._unsaved][-_MOST_UNSAVED:]

    def totals(self) -> Totals:
        """Return the sums since the start."""
        return Totals(self._calls, self._failed, self._tokens, self._products, self._records)
