"""The figures of calls on their way to the outbox."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pricecheck import logs
from pricecheck.collect.calls import CallLog
from pricecheck.keepa.client import Call
from pricecheck.keepa.wire import Envelope
from pricecheck.snapshot import Totals
from pricecheck.timescale import TimeScale

ENVELOPE = Envelope(
    timestamp_ms=1_800_000_000_000,
    tokens_left=77,
    refill_in_ms=12_345,
    refill_rate=20,
    tokens_consumed=3,
    processing_time_ms=45,
)


def call(**fields: Any) -> Call:
    plain: dict[str, Any] = {
        "operation": "product",
        "domain": "DE",
        "asin_count": 3,
        "response_time_ms": 210,
        "envelope": ENVELOPE,
        "status": 200,
        "error": None,
    }
    return Call(**plain | fields)


@pytest.fixture
def calls() -> CallLog:
    return CallLog(TimeScale())


def test_a_call_becomes_a_metric_with_all_its_figures(calls: CallLog) -> None:
    """At least what the former system wrote of each."""
    calls.note(call())

    [record] = calls.drain()
    metric = json.loads(record.body)
    assert (record.kind, record.key) == ("metric", "product")
    assert metric.pop("timestamp").endswith("Z")
    assert metric == {
        "operation": "product",
        "tokens_consumed": 3,
        "tokens_left": 77,
        "refill_rate": 20,
        "refill_in": 12_345,
        "response_time_ms": 210,
        "processing_time_ms": 45,
        "asin_count": 3,
        "domain": "DE",
        "success": True,
        "status": 200,
        "error": None,
        "event_type": "api_call",
    }


def test_a_call_without_an_answer_has_no_figures(calls: CallLog) -> None:
    """Null, not zero: nobody knows what it cost."""
    calls.note(call(envelope=None, status=None, error="no answer"))

    metric = json.loads(calls.drain()[0].body)
    assert (metric["success"], metric["error"]) == (False, "no answer")
    assert metric["tokens_consumed"] is metric["tokens_left"] is metric["status"] is None


def test_no_secret_gets_into_a_metric(calls: CallLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stored and delivered."""
    monkeypatch.setattr(logs, "_secrets", {})
    logs.redact("s3cret")

    calls.note(call(error="the key s3cret is unknown"))

    assert json.loads(calls.drain()[0].body)["error"] == "the key *** is unknown"


def test_metrics_are_handed_over_once(calls: CallLog) -> None:
    """What could not be committed comes first the next time."""
    calls.note(call(operation="token"))
    first = calls.drain()
    calls.note(call())

    calls.put_back(first)

    assert [record.key for record in calls.drain()] == ["token", "product"]
    assert calls.drain() == ()


def test_without_a_store_only_the_newest_metrics_are_kept(calls: CallLog) -> None:
    """They are second to function: they never fill the memory."""
    for _ in range(3):
        for _ in range(600):
            calls.note(call())
        calls.put_back(calls.drain())

    assert len(calls.drain()) == 1_000


def test_the_totals_count_what_was_asked_and_what_it_brought(calls: CallLog) -> None:
    """A failed call's products were not checked."""
    calls.note(call())
    calls.note(call(envelope=None, error="no answer"))
    calls.note_records(7)

    assert calls.totals() == Totals(calls=2, failed_calls=1, tokens=3, products=3, records=7)
