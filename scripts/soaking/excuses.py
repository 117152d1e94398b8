"""What interruptions excuse: calls that were under way when something was killed or cut.

What may be missing, and why that is no loss
  A call is under way from the moment Keepa answers it until the daemon has committed it. When the
  daemon is killed, the network is cut or Keepa itself is killed meanwhile, the answer may be gone
  although Keepa has written it down as delivered: nobody could have kept it, and the product is
  asked for again. So each such interruption excuses at most as many answers as there can be calls
  under way, and none that is older than it takes to commit one; and all of them together excuse
  no more than one for every two, for they rarely meet with a call at all. Every other answer that
  was delivered whole must be in the outbox, and whatever is in the outbox must be everywhere.
  Of an answer that was garbled in one item one product may be missing; one that was garbled as a
  whole brings nothing.
"""

from __future__ import annotations

from typing import Any

from scripts.soaking.books import Books

UNDER_WAY_S = 2.0
"""So long, in real time, a call may still be under way after its answer, or before one that Keepa
gives to somebody who is no longer there; n times as long while processes take turns on n times too
few processors. What the daemon stands still does not count."""

MOST_TURNS = 5.0
LOAD_S = 60.0  # what the system's load is a mean of
CUTS_AN_ANSWER = 2  # that have to happen for each that is excused

STORE_RETRY_S = 5.0
"""So long the daemon waits before it tries again to commit what the disk did not take, real."""


def unexcused(books: Books, missing: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return those of the missing answers that no interruption excuses."""
    spans = sorted(
        (one["end_ms"] + under_way_ms(books, one["end_ms"]), _under_way_since(books, one))
        for one in interruptions(books)
    )
    room = [books.setup.calls_at_once] * len(spans)
    left = []
    for entry in sorted(missing, key=lambda one: int(one["at_ms"])):
        for place, (end, begin) in enumerate(spans):
            if room[place] and begin <= entry["at_ms"] <= end:
                room[place] -= 1
                break
        else:
            left.append(entry)
    return left


def under_way_ms(books: Books, at_ms: float) -> float:
    """Return how long a call may have been under way about then."""
    around = LOAD_S * 1000 * books.setup.factor
    near = (one["load"] for one in books.samples if abs(one["at_ms"] - at_ms) <= around)
    turns: float = min(max([1.0, *near]), MOST_TURNS)
    return UNDER_WAY_S * turns * 1000 * books.setup.factor


def _under_way_since(books: Books, cut: dict[str, Any]) -> float:
    """Return when the oldest call that an interruption can have cut off was answered.

    A frozen daemon goes on at once; one that found the disk full holds on to what it was answered
    until it tries again, and only its own end can cost it that.
    """
    second_ms = 1000 * books.setup.factor
    since: float = cut["begin_ms"] - under_way_ms(books, cut["begin_ms"])
    standstills = [one for one in books.events if one["name"] == "standstill"]
    for still in sorted(standstills, key=lambda one: -int(one["end_ms"])):
        end = still["end_ms"]
        if still["by"] == "disk filled":
            if cut["by"] != "daemon killed":
                continue
            end += STORE_RETRY_S * second_ms
        if still["begin_ms"] < cut["begin_ms"] and end >= since:
            since -= min(end, cut["begin_ms"]) - still["begin_ms"]
    return since


def interruptions(books: Books) -> list[dict[str, Any]]:
    """Return what may have cut off calls under way."""
    return [event for event in books.events if event["name"] == "interruption"]
