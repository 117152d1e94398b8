"""Price histories as step lines, with no more points than a page can carry.

A point holds until the next one; None is a gap, where there was no offer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

Point: TypeAlias = tuple[int, int | None]
"""A minute, and the price from then on."""

_PER_BUCKET: Final = 4
"""How many points stand for a bucket: its lowest, its highest, a gap and the last."""


def even_cap(sizes: Sequence[int], budget: int) -> int:
    """Return the most points that each of these series may have, to have `budget` in all.

    The short ones stay whole; what they leave goes to the long ones.
    """
    left = budget
    ordered = sorted(sizes)
    for place, size in enumerate(ordered):
        share = left // (len(ordered) - place)
        if size > share:
            return share
        left -= size
    return max(sizes, default=0)


def thin(points: Sequence[Point], cap: int) -> list[Point]:
    """Cut a series to at most `cap` points, five or more, that look alike.

    Time is cut into equal buckets; of each, the lowest and the highest price, a gap and what it
    ends with stay. So no low is lost that a chart could show; within a bucket its time may be.
    """
    if len(points) <= cap:
        return list(points)
    buckets = max(1, (cap - 1) // _PER_BUCKET)
    first, last = points[0][0], points[-1][0]
    width = (last - first) / buckets or 1
    by_bucket: dict[int, list[Point]] = {}
    for point in points[1:]:
        by_bucket.setdefault(min(buckets - 1, int((point[0] - first) / width)), []).append(point)
    kept = [points[0]]
    for bucket in by_bucket.values():
        priced = [point for point in bucket if point[1] is not None]
        gaps = [point for point in bucket if point[1] is None]
        chosen = {bucket[-1], *gaps[:1]}
        if priced:
            chosen |= {min(priced, key=_price), max(priced, key=_price)}
        kept += sorted(chosen, key=lambda point: point[0])
    return [
        point
        for place, point in enumerate(kept)
        if not place or point[1] != kept[place - 1][1]  # what stood between is gone
    ]


def price_at(points: Sequence[Point], minute: int) -> int | None:
    """Return the price in force at a minute; None before the first point and in a gap."""
    price = None
    for at, value in points:
        if at > minute:
            break
        price = value
    return price


def flat(points: Sequence[Point]) -> list[int | None]:
    """Write a series as one short list: each minute as its distance from the one before."""
    found: list[int | None] = []
    before = 0
    for minute, price in points:
        found += (minute - before, price)
        before = minute
    return found


def _price(point: Point) -> int:
    return point[1] or 0
