"""What is bought of a product beside the plain check, and how the watchlist writes it.

Few profiles serve a whole watchlist: those that ask for the same share one object, are checked
in the same calls, and have one learned price.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

from pricecheck.errors import InputError, brief
from pricecheck.keepa.tables import LEAST_OFFERS, MOST_OFFERS

_YES: Final = ("yes", "true", "1")
_NO: Final = ("no", "false", "0")
_DIGITS: Final = re.compile(r"[0-9]{1,6}", re.ASCII)


class Extras(msgspec.Struct, frozen=True, gc=False):
    """What a check asks for beside the plain histories; for prices see config.Costs."""

    buybox: bool = False
    offers: int = 0  # 0 for none, or 20 to 100
    update: int | None = None  # hours after which Keepa refreshes the product; 0 is live

    @property
    def name(self) -> str:
        """What it is called for people: `plain`, or `buybox offers=20 update=0`."""
        return _name(self) or "plain"

    @property
    def operation(self) -> str:
        """What the bucket knows such a check as."""
        return f"product {_name(self)}".rstrip()


PLAIN: Final = Extras()


@lru_cache(maxsize=1024)
def _name(extras: Extras) -> str:
    asked: tuple[str, ...] = ("buybox",) if extras.buybox else ()
    asked += (f"offers={extras.offers}",) if extras.offers else ()
    asked += (f"update={extras.update}",) if extras.update is not None else ()
    return " ".join(asked)


@lru_cache(maxsize=1024)
def parse_extras(buybox: str, offers: str, update: str, default: Extras) -> Extras:
    """Read three cells of the watchlist; blank ones are as in `default`. Raises InputError."""
    extras = Extras(
        _buybox(buybox.strip().lower()) if buybox.strip() else default.buybox,
        _offers(offers.strip().lower()) if offers.strip() else default.offers,
        _update(update.strip().lower()) if update.strip() else default.update,
    )
    return default if extras == default else _shared(extras)


@lru_cache(maxsize=1024)
def _shared(extras: Extras) -> Extras:
    """Return the one object that stands for all that are equal to this."""
    return extras


def _buybox(cell: str) -> bool:
    if cell not in _YES + _NO:
        raise InputError(f"buybox {brief(cell)!r} is neither yes nor no")
    return cell in _YES


def _offers(cell: str) -> int:
    if cell in _NO:
        return 0
    if not _DIGITS.fullmatch(cell) or not LEAST_OFFERS <= int(cell) <= MOST_OFFERS:
        raise InputError(
            f"offers {brief(cell)!r}: Keepa takes {LEAST_OFFERS} to {MOST_OFFERS}",
            remedy="0 asks for none",
        )
    return int(cell)


def _update(cell: str) -> int | None:
    if cell in ("no", "false"):  # 0 is live
        return None
    if not _DIGITS.fullmatch(cell):
        raise InputError(
            f"update {brief(cell)!r} is no number of hours",
            remedy="0 is live, and `no` asks for none",
        )
    return int(cell)


def written_extras(extras: Extras) -> dict[str, str]:
    """Write extras as cells that are read as the same, by column."""
    return {
        "buybox": "yes" if extras.buybox else "no",
        "offers": f"{extras.offers}",
        "update": "no" if extras.update is None else f"{extras.update}",
    }
