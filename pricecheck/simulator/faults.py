"""Which calls go wrong, and what their answers then look like."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec

from pricecheck.simulator.settings import Settings
from pricecheck.simulator.world import chance, draw


class RefusedError(Exception):
    """A call that is answered with an error object, and not charged."""

    def __init__(self, status: int, type_: str, message: str, *, unknown_key: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.type = type_
        self.message = message
        self.unknown_key = unknown_key


REFUSALS: Final = {
    "400": (400, "invalidParameter", "The request was rejected."),
    "402": (402, "paymentRequired", "The subscription has ended."),
    "404": (404, "notFound", "There is no such call."),
    "405": (405, "methodNotAllowed", "This call is not made like that."),
    "429": (429, "notEnoughToken", "There are not enough tokens left."),
    "500": (500, "internalServerError", "Something went wrong on our side."),
    "503": (503, "serviceUnavailable", "We are down for maintenance."),
    "error200": (200, "internalServerError", "The request could not be processed."),
}
"""Status, error type and message of the faults that refuse a call. Of the types only
invalidParameter has been seen; the others follow the names of the statuses in Keepa's client."""

UNANSWERED: Final = ("refused", "reset", "notjson")
"""Faults that strike before the call reaches Keepa's bucket."""

HTML: Final = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
NOT_GZIP: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00this is no deflate stream"

_OF_ITEMS = ("wrongtypes", "missing", "nulls")
_LISTS = (("products",), ("deals", "dr"), ("bestSellersList", "asinList"), ("asinList",))


class Strike(msgspec.Struct, frozen=True):
    """A fault that strikes a call, and the random number by which it picks its item."""

    name: str
    luck: int


class Dice:
    """Decides call by call which fault strikes, from the seed and the count of the path's calls."""

    def __init__(self, settings: Settings) -> None:
        self._seed = settings.seed
        self._faults = settings.faults
        self._calls: Counter[str] = Counter()

    def throw(self, path: str) -> Strike | None:
        """Return what strikes this call: the first of the settings' faults that does."""
        self._calls[path] += 1
        for place, fault in enumerate(self._faults):
            call = (self._seed, place, path, self._calls[path])
            if fault.path in (None, path) and chance("fault", *call) < fault.rate:
                return Strike(fault.name, draw("item", *call))
        return None


def spoil(strike: Strike, body: bytes) -> bytes:
    """Return a right answer's body with a fault in it; unchanged where the fault has no hold."""
    if strike.name == "truncated":
        return body[: len(body) // 2]
    if strike.name == "empty":
        return b""
    if strike.name in _OF_ITEMS:
        return _spoil_item(strike.name, body, strike.luck)
    return body


def _spoil_item(name: str, body: bytes, luck: int) -> bytes:
    answer: dict[str, Any] = msgspec.json.decode(body)
    for path in _LISTS:
        holder: Any = answer
        for key in path[:-1]:
            holder = holder.get(key) or {}
        items = holder.get(path[-1])
        if items:
            place = luck % len(items)
            if name == "missing":
                del items[place]
            elif isinstance(items[place], dict):
                items[place] = _spoiled(name, items[place])
            elif name == "nulls":
                holder[path[-1]] = None
            else:
                items[place] = 17
    return msgspec.json.encode(answer)


def _spoiled(name: str, item: dict[str, Any]) -> dict[str, Any]:
    if name == "nulls":
        return _without_lists(item)
    return item | {
        "title": 17,
        "domainId": "three",
        "lastUpdate": "yesterday",
        "csv": {"NEW": "cheap"},
        "current": "cheap",
    }


def _without_lists(item: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None
        if isinstance(value, list)
        else _without_lists(value)
        if isinstance(value, dict)
        else value
        for key, value in item.items()
    }
