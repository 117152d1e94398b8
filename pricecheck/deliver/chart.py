"""A small picture of a price for messages: what it was, what it has become, and what was hoped for.

Drawn twice as large and made smaller, for smooth lines. Pillow is imported with this module, which
is therefore imported only where a picture is wanted.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final, TypeAlias

from PIL import Image, ImageDraw, ImageFont

from pricecheck.deliver.wording import Voice, chart_day, chart_title, figure
from pricecheck.keepa.time import to_rfc3339
from pricecheck.records import Alert, Change, with_shipping

SIZE: Final = (600, 300)
"""Width and height in pixels: a telephone's width, sharp enough for a desk's."""

_DAY_MS: Final = 86_400_000

REACH_MS: Final = 90 * _DAY_MS
"""How far back a chart reaches, if so much is known."""

_SHORT_DAYS: Final = 4
_TIMES: Final = 2  # as large as it becomes, while it is drawn
_LEFT, _TOP, _RIGHT, _BOTTOM = 78, 40, 16, 34  # margins, in pixels
_INK, _PALE, _GRID, _LINE, _FILL, _AIM, _PAPER = (
    "#1f2937",
    "#6b7280",
    "#e5e7eb",
    "#1d4ed8",
    "#dbe6fd",
    "#b45309",
    "#ffffff",
)
_STEPS: Final = (1, 2, 2.5, 5, 10)
_LEAST_SPAN: Final = 0.04  # of the highest price, so that cents do not look like a fall

Point: TypeAlias = tuple[float, int | None]
"""A Unix time in ms, and the price from then on; None: no offer."""


def draw(alert: Alert, changes: Iterable[Change], voice: Voice, *, now_ms: int) -> bytes | None:
    """Return a PNG of the price that an alert is about, or None when there is nothing to see.

    `changes` are those of the product, oldest first; the alert's own is added where it is missing.
    """
    points = _points(alert, changes, now_ms)
    known = [value for _, value in points if value is not None]
    if len(points) < 2 or not known:
        return None
    aim = alert.reference_price
    ticks = _ticks([*known, aim] if aim is not None else known)
    canvas = _Canvas((points[0][0], points[-1][0]), (ticks[0], ticks[-1]))
    for tick in ticks:
        canvas.level(tick, figure(round(tick), alert.currency, voice.language))
    canvas.history(points)
    if aim is not None:
        canvas.aim(aim)
    canvas.days(voice)
    last = points[-1][1]
    canvas.title(chart_title(alert, voice))
    if last is not None:
        # Its font has no sign for the euro or the yen.
        canvas.now(last, f"{figure(last, alert.currency, voice.language)} {alert.currency}")
    return canvas.png()


def example(voice: Voice) -> bytes | None:
    """Return the chart that `pricecheck notify test` sends: of a price that is made up."""
    now = datetime.now(UTC)
    prices = [5999, 6499, 5799, 6299, 4999]
    moments = [to_rfc3339(int(now.timestamp() * 1000) - days * _DAY_MS) for days in (70, 45, 30, 1)]
    made_up: dict[str, Any] = {"asin": "", "domain": "DE", "currency": "EUR", "title": None}
    changes = [
        Change(
            **made_up,
            price_type="NEW",
            changed_at=moment,
            observed_at=moment,
            old_price=old,
            new_price=new,
        )
        for moment, (old, new) in zip(moments, pairwise(prices), strict=True)
    ]
    alert = Alert(
        **made_up,
        rule="",
        what="target",
        price_type="NEW",
        changed_at=moments[-1],
        observed_at=moments[-1],
        new_price=prices[-1],
        reference_price=5_500,
        change_percent=None,
        url="",
    )
    return draw(alert, changes, voice, now_ms=int(now.timestamp() * 1000))


def _points(alert: Alert, changes: Iterable[Change], now_ms: int) -> list[Point]:
    begin_ms = now_ms - REACH_MS
    steps = [
        (
            _ms(one.changed_at),
            with_shipping(one.old_price, one.old_shipping),
            with_shipping(one.new_price, one.new_shipping),
        )
        for one in changes
        if one.price_type == alert.price_type and _ms(one.changed_at) <= now_ms
    ]
    rang_ms = _ms(alert.changed_at)
    if not steps or steps[-1][0] < rang_ms <= now_ms:
        steps.append((rang_ms, steps[-1][2] if steps else alert.old_price, alert.new_price))
    first_ms, before, _ = steps[0]
    # Before the first change nobody knows more than what it changed from.
    points: list[Point] = [(max(begin_ms, first_ms - _DAY_MS), before)]
    points += [(at_ms, after) for at_ms, _, after in steps if at_ms > points[0][0]]
    if now_ms > points[-1][0]:
        points.append((now_ms, points[-1][1]))
    return points


def _ms(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)


def _ticks(values: Sequence[int]) -> list[float]:
    """Return three to six round prices, the least and greatest value between them."""
    low, high = min(values), max(values)
    span = max(high - low, high * _LEAST_SPAN, 4)
    raw = span / 3
    power = 10.0 ** math.floor(math.log10(raw))
    step = max(1.0, next(step * power for step in _STEPS if step * power >= raw))
    first = math.floor(low / step)
    last = max(math.ceil(high / step), first + 1)
    return [step * number for number in range(first, last + 1)]


class _Canvas:
    """A sheet with a plane of times and prices on it."""

    def __init__(self, times: tuple[float, float], prices: tuple[float, float]) -> None:
        self._times, self._prices = times, prices
        width, height = SIZE
        self._image = Image.new("RGB", (width * _TIMES, height * _TIMES), _PAPER)
        self._draw = ImageDraw.Draw(self._image)
        self._small = ImageFont.load_default(13 * _TIMES)
        self._large = ImageFont.load_default(16 * _TIMES)

    def _x(self, at_ms: float) -> float:
        first, last = self._times
        return (_LEFT + (at_ms - first) / (last - first) * (SIZE[0] - _LEFT - _RIGHT)) * _TIMES

    def _y(self, value: float) -> float:
        low, high = self._prices
        height = SIZE[1] - _TOP - _BOTTOM
        return (_TOP + (high - value) / (high - low) * height) * _TIMES

    def level(self, value: float, label: str) -> None:
        """Draw a price's line across, and its label left of it."""
        y = self._y(value)
        self._draw.line(
            (self._x(self._times[0]), y, self._x(self._times[1]), y), _GRID, width=_TIMES
        )
        at = ((_LEFT - 8) * _TIMES, y)
        self._draw.text(at, label, _PALE, self._small, anchor="rm")

    def history(self, points: Sequence[Point]) -> None:
        """Draw steps: a price holds until the next one, and where there was none is a gap."""
        ground = self._y(self._prices[0])
        runs: list[list[tuple[float, float]]] = [[]]
        for (at, value), (until, _) in pairwise(points):
            if value is None:
                runs.append([])
            else:
                runs[-1] += [(self._x(at), self._y(value)), (self._x(until), self._y(value))]
        for run in filter(None, runs):
            outline = [(run[0][0], ground), *run, (run[-1][0], ground)]
            self._draw.polygon(outline, fill=_FILL)
        for run in filter(None, runs):
            self._draw.line(run, _LINE, width=2 * _TIMES, joint="curve")

    def aim(self, value: int) -> None:
        """Draw a dashed line at the price that the rule held against."""
        y, at, dash = self._y(value), self._x(self._times[0]), 6 * _TIMES
        while at < self._x(self._times[1]):
            self._draw.line((at, y, at + dash, y), _AIM, width=_TIMES + 1)
            at += 2 * dash

    def days(self, voice: Voice) -> None:
        """Write the first and last day below, and one between them."""
        first, last = self._times
        y = (SIZE[1] - _BOTTOM + 10) * _TIMES
        between = [(0.5, "ma")] if last - first >= _SHORT_DAYS * _DAY_MS else []
        for share, anchor in ((0.0, "la"), *between, (1.0, "ra")):
            at_ms = first + share * (last - first)
            day = datetime.fromtimestamp(at_ms / 1000).astimezone(voice.zone)
            self._draw.text((self._x(at_ms), y), chart_day(day, voice), _PALE, self._small, anchor)

    def title(self, text: str) -> None:
        """Write what is shown above it."""
        self._draw.text((12 * _TIMES, 12 * _TIMES), text, _INK, self._large, anchor="la")

    def now(self, value: int, label: str) -> None:
        """Mark the price of now, and write it at the upper right."""
        x, y, radius = self._x(self._times[1]), self._y(value), 4 * _TIMES
        self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), _LINE)
        at = ((SIZE[0] - 12) * _TIMES, 12 * _TIMES)
        self._draw.text(at, label, _LINE, self._large, anchor="ra")

    def png(self) -> bytes:
        """Return what was drawn."""
        file = io.BytesIO()
        small = self._image.resize(SIZE, Image.Resampling.BOX)
        small.quantize(64).save(file, "PNG", optimize=True)
        return file.getvalue()
