"""The wire format: what Keepa may send, and that nothing it sends does more harm than it must."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck.keepa import wire
from pricecheck.keepa.tables import PRICE_TYPES, SERIES, PriceType
from pricecheck.keepa.time import to_rfc3339, to_unix_ms
from pricecheck.keepa.wire import Envelope, Fault, Misfit, Point, Product, WireError

ASIN = "B08N5WRWNW"
NEW, AMAZON, BUY_BOX = SERIES["NEW"], SERIES["AMAZON"], SERIES["BUY_BOX_SHIPPING"]
FIGURES = {
    "timestamp": 1_750_000_000_000,
    "tokensLeft": -5,
    "refillIn": 39_592,
    "refillRate": 20,
    "tokenFlowReduction": 1.5,
    "tokensConsumed": 1,
    "processingTimeInMs": 7,
}

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ints = st.integers(-5, 2**31) | st.integers(-(2**64), 2**64)
series = st.lists(ints | st.none(), max_size=9)
row = st.lists(ints | st.none(), max_size=40)


def shaped(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with these fields, some left out; now and then one holds anything at all."""
    name = {"asin": fields.pop("asin")} if "asin" in fields else {}
    right = st.fixed_dictionaries(name, optional=fields)
    odd = st.dictionaries(st.sampled_from(sorted(fields)), anything, max_size=1)
    return st.tuples(right, odd).map(lambda both: both[0] | both[1])


stats = shaped(
    current=row, avg=row, avg90=row, min=st.lists(st.lists(ints) | st.none(), max_size=40)
)
product_objects = shaped(
    asin=st.just(ASIN),
    domainId=st.integers(1, 12),
    title=st.text(max_size=5),
    productType=st.integers(0, 5),
    lastUpdate=st.integers(-1, 2**31 - 1),
    rootCategory=ints,
    categories=st.lists(ints),
    csv=st.lists(series, max_size=40),
    stats=stats,
)
deal_objects = shaped(
    asin=st.just(ASIN),
    title=st.text(max_size=5),
    current=series,
    avg=st.lists(series),
    creationDate=ints,
    rootCat=ints,
    categories=series,
)
answers = shaped(
    **dict.fromkeys(FIGURES, ints),
    error=shaped(type=st.text(), message=st.text(), details=st.text()),
    products=st.lists(product_objects, max_size=3),
    deals=shaped(dr=st.lists(deal_objects, max_size=3)),
    bestSellersList=shaped(asinList=st.lists(st.just(ASIN)), lastUpdate=ints),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A right answer of which a part is lost or overwritten."""
    body = bytearray(json.dumps(draw(answers)).encode())
    place = draw(st.integers(0, len(body)))
    return bytes(
        body[:place] + draw(st.binary(max_size=3)) + body[place + draw(st.integers(0, 9)) :]
    )


def read_all(body: bytes) -> None:
    """Read everything that can be read in a body, and use it as the daemon does."""
    answer = wire.decode(body)
    if answer.envelope is not None:
        to_rfc3339(answer.envelope.timestamp_ms)
        msgspec.json.encode(answer.envelope)
    with suppress(WireError):
        msgspec.json.encode(wire.bestsellers(answer))
    with suppress(WireError):
        msgspec.json.encode(wire.deals(answer)[0])
    products, _ = wire.products(answer)
    for product in products:
        msgspec.json.encode((product, product.no_data))
        if product.last_update is not None:
            to_rfc3339(to_unix_ms(product.last_update))
        for kind in PRICE_TYPES:
            wire.last_value(product, kind)
            try:
                found = wire.points(product, kind, since=1000)
            except WireError:
                continue
            for point in found:
                msgspec.json.encode((point, to_rfc3339(to_unix_ms(point.minute))))


def answer_of(*products: Any, **fields: Any) -> wire.Answer:
    return wire.decode(json.dumps(FIGURES | {"products": products} | fields).encode())


def product_of(kind: PriceType, flat: Any, **fields: Any) -> Product:
    """A product with one series."""
    csv: list[Any] = [None] * kind.index + [flat]
    (product,), _ = wire.products(answer_of({"asin": ASIN, "csv": csv} | fields))
    return product


@given(st.binary() | anything.map(lambda value: json.dumps(value).encode()) | damaged())
def test_whatever_bytes_come_only_wire_errors_are_raised(body: bytes) -> None:
    """Noise, JSON of any shape, and damaged answers are read, or refused by WireError."""
    with suppress(WireError):
        read_all(body)


@given(answers)
def test_an_answer_with_odd_values_anywhere_is_read_or_refused(answer: Any) -> None:
    """Any field of an answer, product, deal or list may hold what it should not."""
    with suppress(WireError):
        read_all(json.dumps(answer).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"<!DOCTYPE html>",
        b'{"products": {}}',
        b"[" * 100_000,
        b'{"timestamp": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=["empty", "cut", "null", "list", "html", "no list", "deep", "deep figure"],
)
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    """Bytes that can't be an answer raise WireError, which says why."""
    with pytest.raises(WireError, match=r"."):
        wire.decode(body)


def test_reads_the_figures_of_an_answer() -> None:
    """Every token figure arrives under its own name, fields without a name of ours are ignored."""
    answer = wire.decode(json.dumps(FIGURES | {"n": 0, "asinList": None}).encode())

    assert answer.envelope == Envelope(
        timestamp_ms=1_750_000_000_000,
        tokens_left=-5,
        refill_in_ms=39_592,
        refill_rate=20,
        token_flow_reduction=1.5,
        tokens_consumed=1,
        processing_time_ms=7,
    )
    assert answer.envelope.effective_rate == 18.5
    assert (answer.fault, answer.products, wire.bestsellers(answer)) == (None, [], None)


@pytest.mark.parametrize(
    ("figures", "envelope"),
    [
        ({"tokensLeft": -5, "refillIn": 1000}, Envelope(tokens_left=-5, refill_in_ms=1000)),
        ({"refillRate": 20, "tokensLeft": None}, Envelope(refill_rate=20)),
        ({"tokensLeft": 0, "refillRate": 0}, Envelope()),
        ({"timestamp": 1}, None),
        ({}, None),
    ],
    ids=["bare 429", "null", "zeros", "time alone", "none"],
)
def test_figures_may_be_few(figures: dict[str, Any], envelope: Envelope | None) -> None:
    """Zeros that were sent are figures, nothing sent is not."""
    assert wire.decode(json.dumps(figures).encode()).envelope == envelope


@pytest.mark.parametrize(
    "odd",
    [
        {"tokensLeft": "many"},
        {"tokensLeft": 2**40},
        {"refillIn": 0.5},
        {"timestamp": -1},
        {"timestamp": 10**18},
        {"processingTimeInMs": []},
    ],
)
def test_an_odd_figure_does_not_cost_the_products(odd: dict[str, Any]) -> None:
    """The figures are not believed then; the products, which are paid for, are there."""
    answer = answer_of({"asin": ASIN}, **odd)

    assert answer.envelope is None
    assert [product.asin for product in wire.products(answer)[0]] == [ASIN]


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ({"type": "a", "message": "b", "details": "c"}, Fault("a", "b", "c")),
        ({"type": "a", "message": None}, Fault("a")),
        ({}, Fault()),
        ("no such key", Fault(message='"no such key"')),
        ({"type": 17}, Fault(message='{"type": 17}')),
        (None, None),
    ],
)
def test_an_error_of_any_shape_is_one(error: Any, fault: Fault | None) -> None:
    """An error object is kept with what it says, whatever form that has; null is none."""
    assert answer_of(error=error).fault == fault


def test_one_bad_product_among_a_hundred_costs_only_itself() -> None:
    """99 are read; the other is set aside with its bytes and the reason."""
    asins = [f"B{number:09d}" for number in range(100)]
    sent: list[Any] = [{"asin": asin, "title": "right"} for asin in asins]
    sent[41] = {"asin": asins[41], "title": 17}

    good, bad = wire.products(answer_of(*sent))

    assert [product.asin for product in good] == asins[:41] + asins[42:]
    assert [misfit.asin for misfit in bad] == [asins[41]]
    assert json.loads(bad[0].raw) == sent[41]
    assert "title" in bad[0].reason


@pytest.mark.parametrize("item", [17, "text", [], {}, {"asin": 5}, {"asin": None}])
def test_a_misfit_without_a_legible_asin_is_kept_too(item: Any) -> None:
    """What is no product at all is set aside without a name."""
    good, bad = wire.products(answer_of(item, {"asin": ASIN}))

    assert [product.asin for product in good] == [ASIN]
    assert bad == [Misfit(None, bad[0].reason, json.dumps(item).encode())]


@pytest.mark.parametrize(
    ("field", "oddity"),
    [
        ("domainId", "three"),
        ("lastUpdate", 2**31),
        ("lastUpdate", -(10**12)),
        ("csv", {"NEW": []}),
        ("categories", [0.5]),
        ("categories", [2**63]),
        ("stats", {"current": [[]]}),
        ("stats", {"min": [5]}),
    ],
)
def test_a_product_of_another_shape_is_set_aside(field: str, oddity: Any) -> None:
    """The reason names the field."""
    _, bad = wire.products(answer_of({"asin": ASIN, field: oddity}))

    assert [misfit.asin for misfit in bad] == [ASIN]
    assert field in bad[0].reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"title": None, "csv": None, "productType": 4}, "not found or gone"),
        ({"title": None, "csv": None}, "not found"),
        ({}, "not found"),
        ({"title": "a book", "productType": 5}, "a parent of variations, without data"),
        ({"title": "a book", "productType": 3}, "no access"),
        ({"title": "a book"}, None),
        ({"csv": [[1, 2]]}, None),
        ({"title": "a book", "productType": 17}, None),
    ],
)
def test_tells_why_there_is_nothing_to_know(fields: dict[str, Any], reason: str | None) -> None:
    """Not found, no access and no data are told from a product with something in it."""
    (product,), _ = wire.products(answer_of({"asin": ASIN} | fields))

    assert product.no_data == reason


def test_null_for_a_product_is_none() -> None:
    """Keepa's third way to say 'not found' is neither a product nor a misfit."""
    assert wire.products(answer_of(None)) == ([], [])
    assert wire.products(wire.decode(b'{"products": null}')) == ([], [])


def test_lists_may_be_null() -> None:
    """Null where a list is expected is nothing, never a misfit."""
    nothing = {"title": "a", "categories": None, "csv": None, "stats": {"current": None}}

    (product,), bad = wire.products(answer_of({"asin": ASIN} | nothing))

    assert bad == []
    assert wire.points(product, NEW) == []
    assert wire.last_value(product, NEW) is None


def test_ids_of_64_bit_are_exact() -> None:
    """Neither of a product's nor of a deal's category is a digit lost."""
    most = 2**63 - 1
    answer = answer_of(
        {"asin": ASIN, "rootCategory": most, "categories": [most - 1]},
        deals={"dr": [{"asin": ASIN, "rootCat": most, "categories": [most - 1]}]},
    )

    (product,), _ = wire.products(answer)
    (deal,), _ = wire.deals(answer)

    assert (product.root_category, product.categories) == (most, [most - 1])
    assert (deal.root_cat, deal.categories) == (most, [most - 1])


@pytest.mark.parametrize(
    ("kind", "flat", "expected"),
    [
        (NEW, [10, 999, 20, -1, 30, 0], [(10, 999, None), (20, None, None), (30, 0, None)]),
        (BUY_BOX, [10, 999, 0, 20, 899, -1], [(10, 999, 0), (20, 899, None)]),
        (BUY_BOX, [10, -1, -1, 20, -1, 499], [(10, None, None), (20, None, None)]),
        (NEW, [10, 1, 10, 2], [(10, 1, None), (10, 2, None)]),
        (NEW, [10, None, 20, 5], [(10, None, None), (20, 5, None)]),
        (NEW, [-5, 7], [(-5, 7, None)]),
        (NEW, [], []),
        (NEW, None, []),
    ],
    ids=["pairs", "triples", "no offer", "one minute", "null", "before 2011", "empty", "none"],
)
def test_reads_a_series(kind: PriceType, flat: Any, expected: list[Any]) -> None:
    """Pairs, or triples with shipping; -1 is no offer, and then there is no shipping either."""
    assert wire.points(product_of(kind, flat), kind) == [Point(*point) for point in expected]


@pytest.mark.parametrize(
    ("flat", "reason"),
    [
        ([10, 1, 20], "2-tuples"),
        ([20, 1, 10, 1], "order of time"),
        ([None, 1, 10, 1], "null"),
        ([None, 1], "null"),
        ([10, 2**31], "int"),
        ([2**31, 1], "int"),
        ([-(10**9), 1], "time"),
        ([10, "cheap"], "int"),
        ({"10": 1}, "array"),
    ],
)
def test_a_series_of_another_shape_is_refused(flat: Any, reason: str) -> None:
    """Odd length, disorder, what is no time and what is no number raise WireError."""
    product = product_of(NEW, flat)

    with pytest.raises(WireError, match=reason):
        wire.points(product, NEW)


def test_a_csv_may_be_longer_or_shorter_than_the_table() -> None:
    """Types to come are ignored, types beyond the end have no history."""
    longer = product_of(PRICE_TYPES[-1], [1, 2])
    longer = msgspec.structs.replace(longer, csv=[*(longer.csv or ()), msgspec.Raw(b'"new"')])

    assert wire.points(longer, PRICE_TYPES[-1]) == [Point(1, 2, None)]
    assert wire.points(product_of(AMAZON, [1, 2]), NEW) == []
    assert wire.last_value(product_of(AMAZON, [1, 2]), NEW) is None


@given(
    kind=st.sampled_from([NEW, BUY_BOX]),
    minutes=st.lists(st.integers(0, 60)).map(sorted),
    since=st.integers(-5, 65),
    data=st.data(),
)
def test_since_cuts_where_a_plain_search_would(
    kind: PriceType, minutes: list[int], since: int, data: st.DataObject
) -> None:
    """All points from `since` on are there, and the one in force just before it."""
    width = 2 if kind.with_shipping else 1
    prices = st.tuples(*[st.integers(-1, 9)] * width)
    history = [(minute, *data.draw(prices)) for minute in minutes]
    product = product_of(kind, [number for point in history for number in point])

    found = wire.points(product, kind, since)

    before = [place for place, minute in enumerate(minutes) if minute < since]
    assert found == wire.points(product, kind)[before[-1] if before else 0 :]
    assert [point.minute for point in wire.points(product, kind)] == minutes


@given(
    kind=st.sampled_from([NEW, BUY_BOX]),
    values=st.lists(st.integers(-2, 2**31 - 1), min_size=1, max_size=4),
    indent=st.sampled_from([None, 0, 3, "\t"]),
)
def test_the_last_value_is_the_last_point_of_the_history(
    kind: PriceType, values: list[int], indent: int | str | None
) -> None:
    """Read off the end of the raw text, it is what the whole history says, however written."""
    width = 3 if kind.with_shipping else 2
    flat = [
        number for minute, price in enumerate(values) for number in (minute, price, 499)[:width]
    ]
    raw = msgspec.Raw(json.dumps(flat, indent=indent).encode())
    product = Product(ASIN, csv=[msgspec.Raw(b"null")] * kind.index + [raw])

    assert wire.last_value(product, kind) == wire.points(product, kind)[-1].price


@pytest.mark.parametrize(
    ("current", "expected"),
    [([-1, 999], 999), ([-1, -1], None), ([-1, None], None), ([5], 777), (None, 777)],
)
def test_statistics_tell_the_last_value_first(current: Any, expected: int | None) -> None:
    """The history is asked only where the statistics say nothing of a type."""
    product = product_of(NEW, [1, 777], stats={"current": current})

    assert wire.last_value(product, NEW) == expected


@pytest.mark.parametrize("flat", [[], None, [5], ["x,5"], {"a": 5}])
def test_what_holds_no_point_has_no_last_value(flat: Any) -> None:
    """An empty or strange series says nothing of now."""
    assert wire.last_value(product_of(NEW, flat), NEW) is None


def test_reads_deals_and_sets_aside_those_that_do_not_fit() -> None:
    """One deal of another shape costs only itself."""
    right = {"asin": ASIN, "current": [1, 2], "avg": [[3]], "creationDate": 7}

    good, bad = wire.deals(answer_of(deals={"dr": [right, {"asin": "B2", "current": "cheap"}]}))

    assert [(deal.asin, deal.current, deal.creation_date) for deal in good] == [(ASIN, [1, 2], 7)]
    assert [misfit.asin for misfit in bad] == ["B2"]


@pytest.mark.parametrize("deals", [None, {}, {"dr": None}, {"dr": []}])
def test_no_deals_are_none(deals: Any) -> None:
    """An answer without deals has none, whatever way it says so."""
    assert wire.deals(answer_of(deals=deals)) == ([], [])


def test_deals_that_are_no_list_are_refused() -> None:
    """What is no list of deals raises WireError."""
    with pytest.raises(WireError):
        wire.deals(answer_of(deals={"dr": 5}))


def test_reads_best_sellers() -> None:
    """The list comes in its order, with its time."""
    found = wire.bestsellers(
        answer_of(bestSellersList={"asinList": ["B2", "B1"], "lastUpdate": 5, "categoryId": 3})
    )

    assert found == wire.BestsellersList(["B2", "B1"], 5)


@pytest.mark.parametrize("best", [None, {}, {"asinList": None}])
def test_no_best_sellers_are_none(best: Any) -> None:
    """Null for the list, or in it, is Keepa's way of having none."""
    assert wire.bestsellers(answer_of(bestSellersList=best)) is None


@pytest.mark.parametrize(("asins", "found"), [(["B2", "B1"], ["B2", "B1"]), ([], []), (None, [])])
def test_reads_what_the_finder_found(asins: Any, found: list[str]) -> None:
    """In its order; null and nothing at all are no ASINs."""
    assert wire.found(answer_of(asinList=asins, totalResults=9)) == found
    assert wire.found(answer_of()) == []


@pytest.mark.parametrize("asins", [{}, "B1", [17]])
def test_a_find_of_another_shape_is_refused(asins: Any) -> None:
    """A rank is a place in the list: WireError."""
    with pytest.raises(WireError):
        wire.found(answer_of(asinList=asins))


@pytest.mark.parametrize("best", [[], {"asinList": [17]}, {"asinList": [], "lastUpdate": "now"}])
def test_best_sellers_of_another_shape_are_refused(best: Any) -> None:
    """A rank is a place in the list, so no item can be left out: WireError."""
    with pytest.raises(WireError):
        wire.bestsellers(answer_of(bestSellersList=best))


def test_recorded_answers_decode() -> None:
    """Every product of the real answers in $KEEPA_SAMPLES is read, with all its histories."""
    place = os.environ.get("KEEPA_SAMPLES")
    if not place or not Path(place).is_dir():
        pytest.skip("no recorded Keepa answers: KEEPA_SAMPLES names no directory that holds them")

    for file in sorted(Path(place).glob("*.json")):
        sample = json.loads(file.read_bytes())
        answer = wire.decode(file.read_bytes())
        good, bad = wire.products(answer)
        assert answer.envelope is not None
        assert answer.envelope.tokens_left == sample["tokensLeft"]
        assert bad == []
        assert [product.asin for product in good] == [item["asin"] for item in sample["products"]]
        for product, item in zip(good, sample["products"], strict=True):
            for kind, flat in zip(PRICE_TYPES, item["csv"], strict=False):
                width = 3 if kind.with_shipping else 2
                history = wire.points(product, kind)
                assert [point.minute for point in history] == (flat or [])[::width]
                assert [-1 if p.price is None else p.price for p in history] == [
                    max(price, -1) for price in (flat or [])[1::width]
                ]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 10**7), st.integers(-1, 999))),
    st.integers(0, 10**7),
    st.sampled_from((NEW, BUY_BOX)),
    st.integers(0, 300),
)
def test_a_tail_read_alone_is_the_end_of_the_whole_history(
    steps: list[tuple[int, int, int]], begin: int, price_type: PriceType, place: int
) -> None:
    """From the last point before any of its times on, whatever numbers look like times."""
    minutes = [begin + sum(gap for gap, *_ in steps[: i + 1]) for i in range(len(steps))]
    flat = [
        number
        for minute, (_, price, shipping) in zip(minutes, steps, strict=True)
        for number in (minute, price, shipping)[: 3 if price_type.with_shipping else 2]
    ]
    csv = [*[None] * price_type.index, flat]
    product = msgspec.json.decode(json.dumps({"asin": ASIN, "csv": csv}), type=Product)
    since = minutes[place % len(minutes)] if minutes else begin

    tail = wire.points(product, price_type, since, only_tail=True)

    assert tail == wire.points(product, price_type, since)
