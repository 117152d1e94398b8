"""Keepa's constants: its marketplaces by every name people use, and its price types."""

from __future__ import annotations

import pytest

from pricecheck.errors import InputError
from pricecheck.keepa.tables import (
    ASIN,
    BY_CODE,
    BY_ID,
    MARKETPLACES,
    PRICE_TYPES,
    PRICES,
    SERIES,
    Marketplace,
    marketplace,
)

OPEN = [market for market in MARKETPLACES if market.code != "CN"]
"""Those that can be watched; of amazon.cn, which has ended, there are old histories."""


@pytest.mark.parametrize("market", OPEN, ids=lambda market: market.code)
def test_a_marketplace_is_found_by_each_of_its_names(market: Marketplace) -> None:
    """Code, host and Keepa's number, in any case, all lead to the one that is meant."""
    names = [market.code, market.tld, f"amazon.{market.tld}", str(market.id)]

    found = {marketplace(spelling) for name in names for spelling in (name, f" {name.title()} ")}

    assert found == {market} == {BY_CODE[market.code], BY_ID[market.id]}


def test_the_uk_has_isos_name_too() -> None:
    """GB is what the rest of the world writes for it."""
    assert marketplace("gb").code == "UK"


@pytest.mark.parametrize(
    "name", ["", "XX", "CN", "amazon.cn", "0", "13", "amazon", "www.amazon.de"]
)
def test_what_is_no_marketplace_names_those_there_are(name: str) -> None:
    """The remedy lists the codes."""
    with pytest.raises(InputError) as caught:
        marketplace(name)

    assert caught.value.remedy.removeprefix("use one of ").split(", ") == [m.code for m in OPEN]
    assert repr(name) in caught.value.message


def test_only_the_yen_has_no_cents() -> None:
    """Every other currency's smallest unit is a hundredth."""
    assert {m.currency for m in MARKETPLACES if m.minor_digits == 0} == {"JPY"}
    assert {m.minor_digits for m in MARKETPLACES} == {0, 2}


def test_price_types_stand_where_keepa_has_them() -> None:
    """Each has its index for its place, its own name, and prices are prices only."""
    assert [series.index for series in PRICE_TYPES] == list(range(36))
    assert len(SERIES) == 36
    assert {series.name for series in PRICE_TYPES if series not in PRICES} == {
        "SALES",
        "RATING",
        "EXTRA_INFO_UPDATES",
        *(name for name in SERIES if name.startswith("COUNT_")),
    }


def test_series_with_shipping_are_those_keepa_names_so() -> None:
    """Their names end in SHIPPING, and no other's does."""
    assert all(series.with_shipping == series.name.endswith("SHIPPING") for series in PRICE_TYPES)


@pytest.mark.parametrize("asin", ["B08N5WRWNW", "0804429578", "080442957X"])
def test_an_asin_is_ten_characters(asin: str) -> None:
    """B and nine letters or digits, or an ISBN."""
    assert ASIN.fullmatch(asin)


@pytest.mark.parametrize("text", ["", "B08N5WRWN", "b08n5wrwnw", "A08N5WRWNW", "B08N5WRWNW\n"])
def test_anything_else_is_no_asin(text: str) -> None:
    """Too short, too long, or of other characters."""
    assert not ASIN.fullmatch(text)
