"""What people write for a product, and what is told where it names none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.errors import InputError
from pricecheck.identify import identify
from pricecheck.keepa.tables import BY_CODE, MARKETPLACES

ASIN = "B0D8W1YVBX"


@pytest.mark.parametrize(
    ("text", "asin", "code"),
    [
        (ASIN, ASIN, None),
        (f" {ASIN.lower()} ", ASIN, None),
        ("080442957X", "080442957X", None),
        ("0-8044-2957-x", "080442957X", None),
        ("9780306406157", "0306406152", None),
        ("978-0-306-40615-7", "0306406152", None),
        ("9780804429573", "080442957X", None),
        (f"https://www.amazon.de/dp/{ASIN}", ASIN, "DE"),
        (f"amazon.co.uk/dp/{ASIN.lower()}/", ASIN, "UK"),
        (f"https://www.amazon.fr/Bookshelf1/dp/{ASIN}/ref=sr_1_1?th=1&psc=1#x", ASIN, "FR"),
        (f"https://www.amazon.com/gp/product/{ASIN}?pf_rd_r=1", ASIN, "US"),
        (f"https://www.amazon.co.jp/-/en/gp/aw/d/{ASIN}", ASIN, "JP"),
        (f"https://www.amazon.it/Tast%C3%A9ra/dp/{ASIN}", ASIN, "IT"),
        (f"https://smile.amazon.de/product-reviews/{ASIN}/", ASIN, "DE"),
        ("https://www.amazon.de/exec/obidos/ASIN/080442957X", "080442957X", "DE"),
        (f"https://keepa.com/#!product/3-{ASIN}", ASIN, "DE"),
    ],
)
def test_names_of_a_product_are_understood(text: str, asin: str, code: str | None) -> None:
    """ASINs, ISBNs of both lengths and addresses; the address tells the marketplace."""
    assert identify(text) == (asin, BY_CODE[code] if code else None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no ASIN"),
        ("keyboard", "is not an ASIN"),
        ("0804429571", "check digit"),
        ("9780306406158", "not an ISBN-13: its check digit"),
        ("9791090636071", "beyond 978"),
        ("4006381333931", "EAN"),
        ("978030640615", "12 digits"),
        (f"https://www.amazon.nl/dp/{ASIN}", "does not know amazon.nl"),
        (f"https://www.amazon.de.example.net/dp/{ASIN}", "does not know"),
        (f"https://evilamazon.de/dp/{ASIN}", "neither of Amazon's"),
        ("https://www.amazon.de/s?k=keyboard", "not the address of a product"),
        ("https://www.amazon.de/Bookshelf1/x", "not the address of a product"),
        ("https://keepa.com/#!deals", "not the address of a product"),
        ("https://amzn.eu/d/abc1234", "only Amazon can resolve"),
        ("https://[broken/dp/x", "not an address"),
    ],
)
def test_what_names_no_product_is_refused_with_a_reason(text: str, reason: str) -> None:
    """Each way to be wrong has words of its own."""
    with pytest.raises(InputError, match=reason.replace(".", r"\.")):
        identify(text)


@pytest.mark.parametrize("market", MARKETPLACES, ids=lambda market: market.code)
def test_every_marketplace_is_known_by_its_host(market: object) -> None:
    """None is mistaken for another whose host ends alike."""
    tld = market.tld  # type: ignore[attr-defined]

    assert identify(f"https://www.amazon.{tld}/dp/{ASIN}") == (ASIN, market)


@given(st.text(max_size=60) | st.from_regex(r"https?://(www\.)?amazon\.de/\S*", fullmatch=True))
def test_no_text_crashes_it(text: str) -> None:
    """Whatever is written is a product or is refused."""
    try:
        asin, _ = identify(text)
    except InputError:
        return
    assert len(asin) == 10


@given(st.integers(0, 10**9 - 1))
def test_a_converted_isbn_is_a_valid_asin(core: int) -> None:
    """The check digit is counted anew, so that the result is an ISBN-10 by its own rule."""
    digits = f"978{core:09d}"
    total = sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(digits))

    asin, _ = identify(f"{digits}{-total % 10}")

    assert asin[:9] == f"{core:09d}"
    assert identify(asin) == (asin, None)
