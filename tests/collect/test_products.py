"""What one product's answer teaches: every change exactly once, and the price now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pricecheck.collect.products import (
    Known,
    Lesson,
    learn,
    product_query,
    recall,
    remember,
)
from pricecheck.extras import PLAIN, Extras
from pricecheck.keepa.client import ProductQuery
from pricecheck.keepa.tables import SERIES
from pricecheck.keepa.time import to_rfc3339, to_unix_ms
from pricecheck.keepa.wire import WireError
from pricecheck.records import Change

from .answers import DAY, DE, NOON, answer, only, product, stats, watch

ALL = ProductQuery()
Csv = Mapping[str, Sequence[Any]]


def check(
    known: Known | None = None,
    csv: Csv | None = None,
    *,
    minute: int = NOON,
    query: ProductQuery = ALL,
    lookback_s: int = 90 * 86_400,
    **fields: Any,
) -> Lesson:
    """Learn from a product's answer at a Keepa minute; what is known goes through the store."""
    fields = {"lastUpdate": minute} | fields
    stored = recall(remember(known)) if known else None
    return learn(
        only(answer(product(csv, **fields), minute=minute)),
        watch(),
        DE,
        stored,
        query=query,
        observed_ms=to_unix_ms(minute),
        lookback_s=lookback_s,
    )


def at(minute: int) -> str:
    return to_rfc3339(to_unix_ms(minute))


def told(changes: Sequence[Change]) -> list[tuple[Any, ...]]:
    """Time, old and new price of changes, with shipping where a change has any."""
    return [
        (change.changed_at, change.old_price, change.new_price)
        if change.old_shipping is None and change.new_shipping is None
        else (
            change.changed_at,
            (change.old_price, change.old_shipping),
            (change.new_price, change.new_shipping),
        )
        for change in changes
    ]


class TestChanges:
    def test_the_first_check_tells_the_changes_of_the_look_back(self) -> None:
        """From its begin on, that minute included, and with the price of before it as the old."""
        day = NOON - DAY
        csv = {"NEW": [day - 9, 500, day - 1, 400, day, 300, NOON - 5, 200]}

        lesson = check(None, csv, lookback_s=86_400)

        assert told(lesson.changes) == [(at(day), 400, 300), (at(NOON - 5), 300, 200)]

    def test_a_later_check_tells_what_came_since(self) -> None:
        """However long ago the check before was, and whatever the look-back."""
        first = check(None, {"NEW": [NOON - 50, 500]}, minute=NOON)
        later = NOON + 400 * DAY

        second = check(
            first.known,
            {"NEW": [NOON - 50, 500, NOON + 10, 400, later - 1, 300]},
            minute=later,
            lookback_s=60,
        )

        assert told(second.changes) == [(at(NOON + 10), 500, 400), (at(later - 1), 400, 300)]

    def test_nothing_new_tells_nothing(self) -> None:
        """The same answer twice brings its changes once."""
        csv = {"NEW": [NOON - 50, 500, NOON - 20, 400], "AMAZON": [NOON - 50, -1]}

        first = check(None, csv)
        second = check(first.known, csv, minute=NOON + 360)

        assert len(first.changes) == 2
        assert second.changes == []

    def test_a_point_added_late_is_told(self) -> None:
        """A change of before the last check that Keepa had not written down then is not missed."""
        first = check(None, {"NEW": [NOON - 50, 500]}, minute=NOON)

        second = check(first.known, {"NEW": [NOON - 50, 500, NOON - 9, 450]}, minute=NOON + 360)

        assert told(second.changes) == [(at(NOON - 9), 500, 450)]

    def test_a_point_added_late_before_the_look_back_is_none_of_it(self) -> None:
        """Where the look-back begins is settled by the first check."""
        first = check(None, {"NEW": [NOON - 50, 500]}, minute=NOON, lookback_s=60)

        second = check(first.known, {"NEW": [NOON - 50, 500, NOON - 9, 450]}, minute=NOON + 360)

        assert second.changes == []

    def test_of_several_points_in_a_minute_the_last_counts(self) -> None:
        """What held for no whole minute is no change."""
        csv = {"NEW": [NOON - 50, 500, NOON - 9, 450, NOON - 9, 420, NOON - 9, 430]}

        lesson = check(None, csv)

        assert told(lesson.changes)[1:] == [(at(NOON - 9), 500, 430)]

    @pytest.mark.parametrize(
        ("corrected", "expected"),
        [(430, (500, 430)), (500, (450, 500))],
        ids=["another price", "the price of before"],
    )
    def test_a_minute_corrected_after_the_check_is_told_anew(
        self, corrected: int, expected: tuple[int, int]
    ) -> None:
        """Under the id of the change it corrects, from the price of before that minute."""
        points = [NOON - 50, 500, NOON, 450]
        first = check(None, {"NEW": points}, minute=NOON)

        second = check(first.known, {"NEW": [*points, NOON, corrected]}, minute=NOON + 360)

        assert told(second.changes) == [(at(NOON), *expected)]
        assert second.changes[0].record().id == first.changes[-1].record().id

    def test_repeated_equal_values_are_no_changes(self) -> None:
        """Neither in one answer nor across two."""
        points = [NOON - 50, 500, NOON - 30, 500]

        first = check(None, {"NEW": points}, minute=NOON)
        second = check(first.known, {"NEW": [*points, NOON + 5, 500]}, minute=NOON + 360)

        assert told(first.changes) == [(at(NOON - 50), None, 500)]
        assert second.changes == []

    def test_minus_one_is_no_offer(self) -> None:
        """It becomes null: at the start of a history it is no change, later it is one."""
        csv = {"NEW": [NOON - 50, -1, NOON - 40, 500, NOON - 30, -1, NOON - 20, 500]}

        lesson = check(None, csv)

        assert told(lesson.changes) == [
            (at(NOON - 40), None, 500),
            (at(NOON - 30), 500, None),
            (at(NOON - 20), None, 500),
        ]

    def test_shipping_is_a_price_of_its_own(self) -> None:
        """Its change alone is a change; -1 of it is unknown, and without an offer there is none."""
        csv = {
            "BUY_BOX_SHIPPING": [
                *(NOON - 50, 500, 299),
                *(NOON - 40, 500, 0),
                *(NOON - 30, 500, -1),
                *(NOON - 20, -1, 299),
            ]
        }

        lesson = check(None, csv)

        assert told(lesson.changes) == [
            (at(NOON - 50), (None, None), (500, 299)),
            (at(NOON - 40), (500, 299), (500, 0)),
            (at(NOON - 30), (500, 0), (500, None)),
            (at(NOON - 20), 500, None),
        ]

    def test_only_prices_change(self) -> None:
        """Ranks, counts, ratings and events make no change records."""
        names = ("SALES", "COUNT_NEW", "EXTRA_INFO_UPDATES", "RATING", "COUNT_REVIEWS")

        lesson = check(None, {name: [NOON - 9, 5, NOON - 4, 6] for name in names})

        assert lesson.changes == []

    def test_a_change_says_all_about_itself(self) -> None:
        """Whose, which price, when, seen when, from what to what, in per cent."""
        csv = {"NEW": [NOON - 50, 800, NOON - 9, 600]}

        change = check(None, csv).changes[-1]

        assert change == Change(
            asin="B000000001",
            domain="DE",
            currency="EUR",
            title="A keyboard",
            price_type="NEW",
            changed_at=at(NOON - 9),
            observed_at=at(NOON),
            old_price=800,
            new_price=600,
            change_percent=-25.0,
        )

    @pytest.mark.parametrize(
        ("flat", "complaint"),
        [
            ([NOON, 1, NOON + 1], r"csv\[1\] \(NEW\) is not"),
            ([NOON, 1, NOON - 1, 2], r"csv\[1\] \(NEW\) is not in order of time"),
            ([NOON, "cheap"], "Expected `int"),
        ],
    )
    def test_a_history_that_can_not_be_read_is_an_error(
        self, flat: list[Any], complaint: str
    ) -> None:
        """One that says which series it is."""
        with pytest.raises(WireError, match=complaint):
            check(None, {"NEW": flat})

    def test_a_product_of_another_marketplace_is_an_error(self) -> None:
        """Its prices are in another currency."""
        with pytest.raises(WireError, match="domain 1, not of 3"):
            check(None, {"NEW": [NOON, 100]}, domainId=1)


class TestPrice:
    def test_it_holds_the_state_now(self) -> None:
        """Each price with a value, shipping included; rank, stars, reviews, title and times."""
        csv = {
            "AMAZON": [NOON - 50, 5_500],
            "NEW": [NOON - 50, 5_000, NOON - 9, 4_500],
            "USED": [NOON - 50, 3_000, NOON - 9, -1],
            "BUY_BOX_SHIPPING": [NOON - 50, 4_500, 299],
            "SALES": [NOON - 50, 17],
            "RATING": [NOON - 50, 45],
            "COUNT_REVIEWS": [NOON - 50, 321],
        }

        price = check(None, csv, lastUpdate=NOON - 3).price

        assert price is not None
        assert price.prices == {"AMAZON": 5_500, "NEW": 4_500, "BUY_BOX_SHIPPING": 4_799}
        assert (price.current_price, price.previous_price) == (4_500, None)
        assert (price.sales_rank, price.rating, price.review_count) == (17, 4.5, 321)
        assert (price.title, price.currency, price.target_price) == ("A keyboard", "EUR", 4_999)
        assert (price.timestamp, price.last_update) == (at(NOON), at(NOON - 3))
        assert price.url == "https://www.amazon.de/dp/B000000001"
        assert price.event_type == "price_update"

    def test_it_compares_with_the_check_before(self) -> None:
        """By the price that counts: NEW, or AMAZON's where nothing else is new."""
        first = check(None, {"AMAZON": [NOON - 50, 5_000], "NEW": [NOON - 50, -1]})

        price = check(
            first.known, {"AMAZON": [NOON - 50, 5_000], "NEW": [NOON - 50, -1, NOON + 5, 4_000]}
        ).price

        assert price is not None
        assert (price.previous_price, price.current_price) == (5_000, 4_000)
        assert price.price_change_percent == -20.0

    def test_statistics_are_by_price_type(self) -> None:
        """Minima and maxima without their time; what has no value is left out."""
        figures = stats(
            current={"NEW": 4_500},
            avg90={"NEW": 5_000, "USED": -1},
            min={"NEW": [NOON - 9, 4_000], "USED": None},
            max={"NEW": [NOON - 50, 6_000]},
        )

        price = check(None, {"NEW": [NOON - 50, 4_500]}, stats=figures).price

        assert price is not None
        assert price.stats == {
            "avg90": {"NEW": 5_000},
            "min": {"NEW": 4_000},
            "max": {"NEW": 6_000},
        }

    def test_a_price_that_is_no_longer_asked_for_is_not_shown(self) -> None:
        """What was known of an offer of last month says nothing of its price now."""
        first = check(
            None,
            {"NEW": [NOON - 50, 500], "NEW_FBA": [NOON - 50, 450]},
            query=ProductQuery(offers=20),
        )

        later = NOON + 30 * DAY
        price = check(first.known, {"NEW": [NOON - 50, 500]}, minute=later).price

        assert price is not None
        assert price.prices == {"NEW": 500}

    def test_a_price_whose_history_is_cut_off_is_taken_from_the_statistics(self) -> None:
        """A short history need not hold the point that is in force."""
        first = check(None, {"NEW": [NOON - 50, 500]})

        price = check(
            first.known,
            {"NEW": None},  # type: ignore[dict-item]
            minute=NOON + DAY,
            query=ProductQuery(days=2),
            stats=stats(current={"NEW": 500}),
        ).price

        assert price is not None
        assert price.prices == {"NEW": 500}


class TestAbsence:
    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"productType": 4, "title": None}, "not found or gone"),
            ({"productType": None, "title": None}, "not found"),
            ({"productType": 3}, "no access"),
            ({"productType": 5}, "a parent of variations, without data"),
        ],
    )
    def test_a_product_without_data_has_no_price(self, fields: dict[str, Any], reason: str) -> None:
        """And says why; there is no record of it."""
        lesson = check(None, None, **fields)

        assert (lesson.price, lesson.changes) == (None, [])
        assert lesson.known.absent == reason

    def test_a_product_that_comes_back_has_missed_no_change(self) -> None:
        """What was known of it before it went is kept."""
        first = check(None, {"NEW": [NOON - 50, 500]})
        gone = check(first.known, None, minute=NOON + 360, productType=4)

        back = check(gone.known, {"NEW": [NOON - 50, 500, NOON + 100, 400]}, minute=NOON + 720)

        assert told(back.changes) == [(at(NOON + 100), 500, 400)]
        assert back.known.absent is None

    def test_what_another_version_wrote_is_as_good_as_nothing(self) -> None:
        """A state that can't be read never stops a check."""
        assert recall(b'{"prices": 17}') is None
        assert recall(None) is None


class TestQuery:
    def days(self, *known: Known | None, extras: Extras = PLAIN) -> int | None:
        return product_query(90, extras, known, to_unix_ms(NOON)).days

    def test_it_asks_for_what_is_bought_of_the_products(self) -> None:
        """Statistics over as many days, and each extra by its own parameter."""
        extras = Extras(buybox=True, offers=20, update=0)

        query = product_query(30, extras, [None], to_unix_ms(NOON))

        assert query == ProductQuery(stats_days=30, buybox=True, offers=20, update=0)

    def test_the_first_check_of_one_asks_for_all_history(self) -> None:
        """A neighbour that is known already does not cut it short."""
        assert self.days(Known(last_update=NOON), None) is None
        assert self.days(Known(last_update=NOON), Known()) is None

    def test_later_it_asks_for_the_time_since_the_oldest_answer(self) -> None:
        """With a day more, for Keepa may add points late, and days come whole."""
        assert self.days(Known(last_update=NOON - 10), Known(last_update=NOON)) == 2
        assert self.days(Known(last_update=NOON - 3 * DAY - 10), Known(last_update=NOON)) == 5

    def test_absent_products_do_not_make_their_neighbours_answers_whole(self) -> None:
        """One ASIN that never existed would cost the traffic of a hundred whole histories."""
        assert self.days(Known(last_update=NOON), Known(absent="not found")) == 2

    def test_what_is_newly_bought_is_asked_for_with_all_its_history(self) -> None:
        """Its price types are new, so their changes of the look-back are told now."""
        offers = Extras(offers=20)

        assert self.days(Known(last_update=NOON), extras=offers) is None
        assert self.days(Known(last_update=NOON, extras=("offers",)), extras=offers) == 2


Series = list[tuple[int, Any]]

prices = st.sampled_from([-1, 100, 200, 300])
pairs = prices.map(lambda price: (price,))
triples = st.tuples(prices, st.sampled_from([-1, 0, 99]))


def histories(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Series]:
    """Points in order of time: minutes, hours and weeks apart, some in one minute."""
    gaps = st.sampled_from([0, 0, 1, 1, 5, 60, 300, DAY, 9 * DAY])
    return st.lists(st.tuples(gaps, values), max_size=25).map(_points)


def _points(steps: list[tuple[int, Any]]) -> Series:
    minute, points = NOON, []
    for gap, values in steps:
        minute += gap
        points.append((minute, values))
    return points


def flat(points: Series) -> list[int]:
    return [number for minute, values in points for number in (minute, *values)]


def recount(points: Series, since: int) -> dict[str, tuple[Any, Any]]:
    """The changes of a whole history, counted in the plainest way: time -> before and after."""
    last_of_minute = dict(points)
    found: dict[str, tuple[Any, Any]] = {}
    before: Any = None
    for minute, values in last_of_minute.items():
        price, *shipping = values
        now = None if price < 0 else (price, *(None if s < 0 else s for s in shipping))
        if now != before and minute >= since:
            found[at(minute)] = (before, now)
        before = now
    return found


def clipped(points: Series, begin: int) -> Series:
    """What a query with `days` leaves: the points after a minute, and the one in force then."""
    older = [point for point in points if point[0] <= begin]
    return older[-1:] + [point for point in points if point[0] > begin]


@given(
    new=histories(pairs),
    used=histories(pairs),
    box=histories(triples),
    waits=st.lists(st.sampled_from([1, 7, 60, 360, DAY, 4 * DAY, 30 * DAY]), min_size=1),
    lateness=st.lists(st.integers(0, DAY - 1), min_size=30, max_size=30),
    missing=st.sets(st.integers(1, 30)),
    bare=st.sets(st.integers(1, 30)),
    lookback_days=st.sampled_from([0, 1, 20, 400]),
)
@example(  # after an answer without it, the next reaches back to what was told, and not a day more
    new=[],
    used=[],
    box=_points([(0, (100, -1)), (1, (-1, -1))]),
    waits=[7, DAY, DAY],
    lateness=[7] + 29 * [0],
    missing={1},
    bare=set(),
    lookback_days=1,
)
def test_whenever_it_is_checked_every_change_is_told_exactly_once(
    new: Series,
    used: Series,
    box: Series,
    waits: list[int],
    lateness: list[int],
    missing: set[int],
    bare: set[int],
    lookback_days: int,
) -> None:
    """The changes of all checks together are those of the whole history, recounted.

    Points come up to a day late, answers are cut short by `days` as Keepa does, and some have no
    product in them, or one without histories.
    """
    series: dict[str, Series] = {"NEW": new, "USED": used, "BUY_BOX_SHIPPING": box}
    known: Known | None = None
    minute, seen_until, collected = NOON - 1, NOON - 1, []
    for number, wait in enumerate([*waits[:29], 2 * DAY, 2 * DAY]):
        minute += wait
        last_checks = number >= len(waits[:29])  # of these none is missing or late
        late = 0 if last_checks else lateness[number]
        seen_until = max(seen_until, minute - late)
        query = product_query(90, Extras(buybox=True), [known], to_unix_ms(minute))
        begin = 0 if query.days is None else minute - query.days * DAY
        answered = {
            name: flat(clipped([point for point in points if point[0] <= seen_until], begin))
            for name, points in series.items()
        }
        odd = not last_checks and number in missing | bare
        fields = {"productType": 4} if odd and number in missing else {}
        lesson = check(
            known,
            None if odd else {name: row for name, row in answered.items() if row},
            minute=minute,
            query=query,
            lookback_s=lookback_days * 86_400,
            **fields,
        )
        known = lesson.known
        collected += lesson.changes

    assert known is not None
    assert known.since is not None
    for name, points in series.items():
        seen = [point for point in points if point[0] <= minute]
        changes = [change for change in collected if change.price_type == name]
        with_shipping = SERIES[name].with_shipping
        assert {
            change.changed_at: (
                _value(change.old_price, change.old_shipping, with_shipping=with_shipping),
                _value(change.new_price, change.new_shipping, with_shipping=with_shipping),
            )
            for change in changes
        } == recount(seen, known.since)
        assert len(changes) == len({change.changed_at for change in changes})


def _value(price: int | None, shipping: int | None, *, with_shipping: bool) -> Any:
    if price is None:
        return None
    return (price, shipping) if with_shipping else (price,)
