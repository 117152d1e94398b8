"""Deals: asked of Keepa, or derived from product checks where the plan has none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
import msgspec
import pytest
import trio

from pricecheck.clock import ScaledClock
from pricecheck.collect.deals import DerivedDeals, collect_deals, deal_score, digest_deals
from pricecheck.collect.products import Lesson, learn
from pricecheck.collect.trouble import Trouble
from pricecheck.config import AlertRule, DealRule, Domain, PriceTypeName, Threshold
from pricecheck.keepa import wire
from pricecheck.keepa.client import DealsAnswer, ProductQuery
from pricecheck.keepa.errors import ServerError
from pricecheck.keepa.tables import BY_CODE, PRICE_TYPES, SERIES
from pricecheck.keepa.time import to_rfc3339, to_unix_ms
from pricecheck.outbox import Commit
from pricecheck.simulator.settings import Fault

from ..daemons import Service, until
from .answers import NOON, answer, only, product, stats, watch
from .conftest import Desk, OpenDesk

KEYBOARDS = 340843031
DE = Domain("DE")
RULE = DealRule(domain=DE, category=KEYBOARDS)


def start(
    nursery: trio.Nursery, desk: Desk, rule: DealRule = RULE, derived: DerivedDeals | None = None
) -> Trouble:
    trouble = Trouble(rule.name)
    derived = derived or DerivedDeals()
    nursery.start_soon(collect_deals, desk.heartbeat, rule, desk.spender, derived, trouble)
    return trouble


class TestAsking:
    async def test_deals_become_records(self, open_desk: OpenDesk, nursery: trio.Nursery) -> None:
        """With at least the fields that the former system wrote, as far as Keepa tells them."""
        desk = await open_desk()

        start(nursery, desk)
        await until(desk.outbox.marks)

        deals = desk.kept("deal")
        assert len(deals) > 10
        for deal in deals:
            assert 10 <= deal["discount_percent"] <= 90
            assert deal["current_price"] < deal["original_price"]
            assert (deal["domain"], deal["currency"], deal["price_type"]) == ("DE", "EUR", "NEW")
            assert (deal["category"], deal["source"]) == (KEYBOARDS, "keepa")
            assert 3 <= deal["rating"] <= 5
            assert deal["url"] == f"https://www.amazon.de/dp/{deal['asin']}"
            assert 0 < deal["deal_score"] <= 100
            assert deal["event_type"] == "deal_update"
        assert desk.outbox.marks().keys() == {RULE.name}

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            (
                DealRule(domain=DE),
                {
                    "domainId": 3,
                    "priceTypes": [1],
                    "page": 0,
                    "includeCategories": [],
                    "deltaPercentRange": [10, 90],
                    "currentRange": [0, 2**31 - 1],
                    "minRating": -1,
                    "isRangeEnabled": True,
                    "isFilterEnabled": True,
                },
            ),
            (
                DealRule(
                    domain=DE,
                    category=KEYBOARDS,
                    price_type=PriceTypeName("AMAZON"),
                    min_discount=20,
                    max_discount=70,
                    min_price=15,
                    max_price=299.99,
                    min_rating=3.5,
                ),
                {
                    "priceTypes": [0],
                    "includeCategories": [KEYBOARDS],
                    "deltaPercentRange": [20, 70],
                    "currentRange": [1500, 29999],
                    "minRating": 35,
                },
            ),
            (
                DealRule(domain=Domain("JP"), min_price=1500, max_price=30_000),
                {"domainId": 5, "currentRange": [1500, 30_000]},
            ),
            (DealRule(domain=DE, max_price=1e12), {"currentRange": [0, 2**31 - 1]}),
        ],
        ids=["defaults", "everything", "yen", "beyond Keepa's numbers"],
    )
    async def test_a_rule_is_asked_in_keepas_words(
        self,
        open_desk: OpenDesk,
        nursery: trio.Nursery,
        rule: DealRule,
        expected: dict[str, Any],
    ) -> None:
        """Prices in the smallest unit of the marketplace's currency: cents, but yen."""
        desk = await open_desk()
        sent: list[Any] = []

        async def note(request: httpx.Request) -> None:
            if request.method == "POST":
                sent.append(json.loads(request.content))

        desk.spender.client._http.event_hooks = {"request": [note]}
        start(nursery, desk, rule)
        await until(desk.outbox.marks)

        assert sent[0] == sent[0] | expected
        assert desk.asked("deal")[0]["status"] == 200

    async def test_a_deal_that_does_not_fit_costs_one_deal(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """It is set aside with its bytes; the others pass."""
        desk = await open_desk(faults=(Fault("wrongtypes", 1.0, "deal"),))

        start(nursery, desk)
        await until(desk.outbox.marks)

        [letter] = desk.outbox.dead_letters(source="keepa")
        assert (letter.kind, letter.id.partition(":")[0]) == ("deal", "DE")
        assert json.loads(letter.body)["current"] == "cheap"
        assert len(desk.kept("deal")) > 10

    async def test_a_failure_is_told_and_ends(
        self,
        open_desk: OpenDesk,
        nursery: trio.Nursery,
        service: Service,
        fast_clock: ScaledClock,
    ) -> None:
        """With the task's name, for status."""
        desk = await open_desk(faults=(Fault("503", 1.0, "deal"),))

        trouble = start(nursery, desk)
        await until(lambda: "503" in (trouble.reason or ""))
        await service.serve()
        await until(lambda: desk.kept("deal"))

        await until(lambda: trouble.reason is None)

    async def test_pages_are_asked_until_the_last(
        self, open_desk: OpenDesk, nursery: trio.Nursery
    ) -> None:
        """A page that is not full is the last; only then is the rule done for this time."""
        desk = await open_desk()
        wanted = [150, 150, 20, 150]
        marked = []

        async def page(market: Any, query: Any) -> DealsAnswer:
            await trio.lowlevel.checkpoint()
            marked.append(dict(desk.outbox.marks()))
            names = [f"B{query.page}{number:08d}" for number in range(wanted[query.page])]
            return deals_answer(*(deal(asin=name) for name in names))

        desk.spender.client.deals = page  # type: ignore[method-assign]
        start(nursery, desk, msgspec.structs.replace(RULE, pages=4))
        await until(desk.outbox.marks)

        assert len(desk.kept("deal")) == 320
        assert marked == [{}, {}, {}]

    async def test_a_page_that_fails_lets_none_before_it_be_paid_for_again(
        self, open_desk: OpenDesk, nursery: trio.Nursery, fast_clock: ScaledClock
    ) -> None:
        """What comes next is that page; all of them at the next regular time."""
        desk = await open_desk()
        pages = []

        async def page(market: Any, query: Any) -> DealsAnswer:
            await trio.lowlevel.checkpoint()
            pages.append(query.page)
            if pages.count(2) in (1, 2) and query.page == 2:
                raise ServerError("Keepa answered 500")
            return deals_answer(*(deal(asin=f"B{number:09d}") for number in range(150)))

        desk.spender.client.deals = page  # type: ignore[method-assign]
        start(nursery, desk, msgspec.structs.replace(RULE, pages=4))
        await until(lambda: len(pages) >= 10)

        assert pages[:10] == [0, 1, 2, 2, 2, 3, 0, 1, 2, 3]


class TestPlanWithoutDeals:
    @pytest.mark.parametrize("fast_clock", [86_400.0], indirect=True)
    async def test_they_are_derived_until_the_plan_has_them(
        self,
        open_desk: OpenDesk,
        nursery: trio.Nursery,
        service: Service,
        fast_clock: ScaledClock,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Said once; Keepa is asked again once a day, and believed when it answers."""
        desk = await open_desk(no_deals=True)
        derived = DerivedDeals()

        trouble = start(nursery, desk, RULE, derived)
        await until(lambda: len(desk.asked("deal")) >= 2)
        assert derived.rules == {RULE}
        assert trouble.reason is None
        first, second, *_ = (call["at_ms"] for call in desk.asked("deal"))
        assert second - first > 86_000_000
        said = [one.getMessage() for one in caplog.records]
        assert said == ["plan has no deals: deriving them from product checks"]
        await service.serve()
        await until(lambda: desk.kept("deal"))

        await until(lambda: not derived.rules)


class TestDerived:
    CHECKED = product(
        {
            "NEW": [NOON - 900, 10_000, NOON - 60, 6_000],
            "LISTPRICE": [NOON - 900, 8_000],
            "RATING": [NOON - 900, 42],
            "COUNT_REVIEWS": [NOON - 900, 99],
            "SALES": [NOON - 900, 100],
        },
        stats=stats(avg90={"NEW": 10_000}),
        rootCategory=5,
        categories=[7, 8],
    )

    def derive(self, rule: DealRule, **fields: Any) -> list[Any]:
        lesson = learned(self.CHECKED | fields)
        assert lesson.price is not None
        derived = DerivedDeals()
        derived.rules = frozenset({rule})
        return derived.find(lesson.price, lesson)

    def test_a_deal_is_measured_by_average_and_list_price(self) -> None:
        """By the higher of the two; it began when its price did."""
        [found] = self.derive(DealRule(domain=DE))

        assert (found.current_price, found.original_price, found.discount_percent) == (
            6_000,
            10_000,
            40,
        )
        assert found.created_at == to_rfc3339(to_unix_ms(NOON - 60))
        assert (found.source, found.rating, found.review_count, found.sales_rank) == (
            "derived",
            4.2,
            99,
            100,
        )
        assert found.deal_score == deal_score(40, 4.2, 99, 100)

    def test_without_an_average_the_list_price_counts(self) -> None:
        """And without both there is no deal."""
        [found] = self.derive(DealRule(domain=DE), stats=None)
        assert (found.original_price, found.discount_percent) == (8_000, 25)

        bare = product({"NEW": [NOON - 60, 6_000]})
        assert self.derive(DealRule(domain=DE), csv=bare["csv"], stats=None) == []

    @pytest.mark.parametrize(
        "rule",
        [
            DealRule(domain=DE, category=5),
            DealRule(domain=DE, category=8),
            DealRule(domain=DE, min_discount=40, max_discount=40),
            DealRule(domain=DE, min_price=60, max_price=60),
            DealRule(domain=DE, min_rating=4.2),
        ],
    )
    def test_what_a_rule_asks_for_is_a_deal(self, rule: DealRule) -> None:
        """Limits belong to what they limit; categories are root or node."""
        assert len(self.derive(rule)) == 1

    @pytest.mark.parametrize(
        "rule",
        [
            DealRule(domain=Domain("FR")),
            DealRule(domain=DE, category=6),
            DealRule(domain=DE, min_discount=41),
            DealRule(domain=DE, max_discount=39),
            DealRule(domain=DE, min_price=60.01),
            DealRule(domain=DE, max_price=59.99),
            DealRule(domain=DE, min_rating=4.3),
            DealRule(domain=DE, price_type=PriceTypeName("USED")),
        ],
    )
    def test_what_a_rule_does_not_ask_for_is_none(self, rule: DealRule) -> None:
        """Each condition by itself keeps a product out."""
        assert self.derive(rule) == []

    def test_yen_have_no_cents(self) -> None:
        """A limit of 6,000 yen is 6,000 of the smallest unit."""
        lesson = learned(self.CHECKED | {"domainId": 5}, "JP")
        assert lesson.price is not None
        derived = DerivedDeals()
        jp = Domain("JP")

        derived.rules = frozenset({DealRule(domain=jp, min_price=6_000, max_price=6_000)})

        assert len(derived.find(lesson.price, lesson)) == 1


def learned(checked: dict[str, Any], domain: str = "DE") -> Lesson:
    return learn(
        only(answer(checked)),
        watch(domain=domain),
        BY_CODE[domain],
        None,
        query=ProductQuery(),
        observed_ms=to_unix_ms(NOON),
        lookback_s=86_400,
    )


def deal(**fields: Any) -> dict[str, Any]:
    """A deal object as the wire has it."""
    month = [-1] * len(PRICE_TYPES)
    current = list(month)
    for name, figure in {"NEW": 6_000, "RATING": 45, "COUNT_REVIEWS": 99, "SALES": 100}.items():
        current[SERIES[name].index] = figure
    avg, percent = list(month), list(month)
    avg[1], percent[1] = 10_000, 40
    return {
        "asin": "B000000001",
        "title": "A keyboard",
        "current": current,
        "avg": [month, month, avg, month],
        "deltaPercent": [month, month, percent, month],
        "creationDate": NOON - 60,
        "rootCat": 5,
        "categories": [7, 8],
    } | fields


def deals_answer(*deals: Any) -> DealsAnswer:
    body = {"timestamp": to_unix_ms(NOON), "tokensLeft": 9, "refillRate": 20, "tokensConsumed": 5}
    read = wire.decode(json.dumps(body | {"deals": {"dr": deals}}).encode())
    return DealsAnswer(read.envelope, *wire.deals(read))


def digested(*deals: Any, rule: DealRule = RULE, **options: Any) -> Commit:
    return digest_deals(deals_answer(*deals), rule, **{"page": 0, "now_ms": 1} | options)


def bodies(commit: Commit) -> Sequence[Any]:
    return [json.loads(record.body) for record in commit.records]


class TestDigest:
    def test_a_deal_is_read_against_its_last_month(self) -> None:
        """Its id is when it began, so that its newest state wins."""
        commit = digested(deal())

        [record] = commit.records
        [body] = bodies(commit)
        began = to_rfc3339(to_unix_ms(NOON - 60))
        assert record.id == f"DE:B000000001:NEW:{began}"
        assert body["timestamp"] == to_rfc3339(to_unix_ms(NOON))
        assert (body["current_price"], body["original_price"]) == (6_000, 10_000)
        assert body["discount_percent"] == 40
        assert (body["rating"], body["review_count"], body["sales_rank"]) == (4.5, 99, 100)
        assert body["category"] == 5

    def test_a_deal_of_enough_score_rings(self) -> None:
        """The alert is committed beside it."""
        rule = AlertRule(name="great", what="score", threshold=Threshold(50))
        never = AlertRule(name="never", what="score", threshold=Threshold(100))

        commit = digested(deal(), alerts=(rule, never))

        assert [record.kind for record in commit.records] == ["deal", "alert"]
        assert [body["deal_score"] for body in bodies(commit)] == [
            bodies(commit)[0]["deal_score"]
        ] * 2

    @pytest.mark.parametrize(
        ("title", "plain"),
        [
            ("Tom &amp; Jerry&#39;s &quot;K1&quot;", 'Tom & Jerry\'s "K1"'),
            ("A <b>fine</b> keyboard<br/>", "A fine keyboard"),
            ("for hands &lt; 8 inch", "for hands < 8 inch"),
            ("3 < 5 > 4", "3 < 5 > 4"),
            (None, None),
        ],
    )
    def test_titles_lose_their_html(self, title: str | None, plain: str | None) -> None:
        """Entities are resolved, tags go, and a lone bracket stays what it is."""
        assert bodies(digested(deal(title=title)))[0]["title"] == plain

    @pytest.mark.parametrize("root", [None, 0, 2**63 - 1])
    def test_an_unknown_root_category_gives_way_to_the_first_node(self, root: int | None) -> None:
        """Keepa writes 0 or the largest 64-bit number for it."""
        assert bodies(digested(deal(rootCat=root)))[0]["category"] == 7
        assert bodies(digested(deal(rootCat=root, categories=None)))[0]["category"] is None

    def test_what_is_not_there_is_null(self) -> None:
        """-1, and lists shorter than the table of types."""
        bare = deal(current=[-1, -1], avg=[], deltaPercent=None)

        [body] = bodies(digested(bare))

        for name in ("current_price", "original_price", "discount_percent", "rating"):
            assert body[name] is None

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            (deal(creationDate=0), "the deal has no creationDate"),
            (deal(current="cheap"), "Expected `array"),
            (deal(creationDate="now"), "Expected `int"),
        ],
    )
    def test_what_can_not_be_read_goes_alone(self, broken: dict[str, Any], reason: str) -> None:
        """With the reason and its bytes."""
        commit = digested(deal(), broken, deal(asin="B000000002"))

        [letter] = commit.dead_letters
        assert reason in letter.reason
        assert (letter.source, letter.kind, letter.id) == ("keepa", "deal", "DE:B000000001")
        assert json.loads(letter.body)["title"] == "A keyboard"
        assert len(commit.records) == 2

    def test_illegible_deals_are_letters_of_their_own(self) -> None:
        """Two without an ASIN do not overwrite each other."""
        commit = digested({"asin": 1}, {"asin": 2})

        assert len({letter.id for letter in commit.dead_letters}) == 2


@pytest.mark.parametrize(
    ("discount", "rating", "reviews", "rank", "score"),
    [
        (None, None, None, None, 0),
        (50, 5.0, 10_000, 1, 100),
        (90, 5.0, 10**6, 1, 100),
        (25, None, None, None, 25),
        (-5, 2.0, 0, 0, 0),
        (None, 4.0, None, None, 10),
        (None, None, 99, None, 10),
        (None, None, None, 1_000, 5),
        (None, None, None, 10**7, 0),
    ],
)
def test_the_score_adds_up(
    discount: int | None,
    rating: float | None,
    reviews: int | None,
    rank: int | None,
    score: float,
) -> None:
    """Fifty points for the discount, twenty each for stars and reviews, ten for the rank."""
    assert deal_score(discount, rating, reviews, rank) == pytest.approx(score, abs=0.1)
