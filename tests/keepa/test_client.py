"""The client's calls against a simulated Keepa: what they bring, cost and report."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pricecheck.keepa import errors
from pricecheck.keepa.client import (
    Call,
    DealQuery,
    FinderQuery,
    KeepaClient,
    ProductQuery,
    Timeouts,
)
from pricecheck.keepa.errors import KeepaError
from pricecheck.keepa.tables import BY_CODE, SERIES
from pricecheck.simulator.settings import FAULTS, Fault

from .conftest import Simulate

DE = BY_CODE["DE"]
ASINS = [f"B0{number:08d}" for number in range(5)]
DEALS = DealQuery(
    page=0,
    domain_id=DE.id,
    price_types=[SERIES["NEW"].index],
    date_range=2,
    include_categories=[],
    delta_percent_range=(10, 90),
    current_range=(0, 2**31 - 1),
    min_rating=-1,
    sort_type=4,
    is_range_enabled=True,
    is_filter_enabled=True,
)
IMPATIENT = Timeouts(read_s=0.5)


async def five(keepa: KeepaClient, **query: Any) -> Any:
    return await keepa.products(DE, ASINS, ProductQuery(**query))


async def test_token_tells_the_buckets_state(simulate: Simulate, calls: list[Call]) -> None:
    """Free of tokens, with the figures of the server."""
    keepa = await simulate(refill_rate=60, tokens=100)

    envelope = await keepa.token()

    assert (envelope.tokens_left, envelope.refill_rate, envelope.tokens_consumed) == (100, 60, 0)
    assert 0 < envelope.refill_in_ms <= 60_000
    (call,) = calls
    assert call == Call(
        operation="token",
        domain=None,
        asin_count=0,
        response_time_ms=call.response_time_ms,
        envelope=envelope,
        status=200,
        error=None,
    )


@pytest.mark.parametrize(
    ("query", "cost"),
    [
        ({}, 5),
        ({"days": 7, "stats_days": 30}, 5),
        ({"buybox": True}, 15),
        ({"update": 0}, 10),
        ({"offers": 20}, 65),
        ({"update": 0, "offers": 20, "buybox": True}, 80),
    ],
)
async def test_products_cost_by_what_is_asked(
    simulate: Simulate, calls: list[Call], query: dict[str, Any], cost: int
) -> None:
    """A token each, and what the extras of the query add; the call reports it."""
    keepa = await simulate()

    answer = await five(keepa, **query)

    assert [product.asin for product in answer.products] == ASINS
    assert answer.misfits == []
    assert answer.envelope.tokens_consumed == cost
    assert answer.envelope.tokens_left == 1200 - cost
    (call,) = calls
    assert (call.operation, call.domain, call.asin_count) == ("product", "DE", 5)
    assert (call.envelope, call.status, call.error) == (answer.envelope, 200, None)


async def test_products_bring_history_and_statistics(simulate: Simulate) -> None:
    """Whole by default, and cut to the days asked for."""
    keepa = await simulate()

    whole, week = (await five(keepa)).products[0], (await five(keepa, days=7)).products[0]

    assert whole.stats.current
    assert len(whole.csv[1]) > len(week.csv[1])


async def test_a_hundred_products_are_the_most(simulate: Simulate, calls: list[Call]) -> None:
    """More, or none, is a mistake of the caller's that is never sent."""
    keepa = await simulate()
    asins = [f"B0{number:08d}" for number in range(101)]

    assert len((await keepa.products(DE, asins[:100], ProductQuery())).products) == 100
    for wrong in (asins, []):
        with pytest.raises(ValueError, match="1 to 100"):
            await keepa.products(DE, wrong, ProductQuery())

    assert len(calls) == 1


async def test_products_not_found_are_free(simulate: Simulate) -> None:
    """They come back without data, or not at all; none is a misfit."""
    keepa = await simulate(not_found=1.0)

    answer = await five(keepa)

    assert all(product.no_data for product in answer.products)
    assert (answer.misfits, answer.envelope.tokens_consumed) == ([], 0)


async def test_deals_come_by_post(simulate: Simulate, calls: list[Call]) -> None:
    """A page of up to 150 deals for 5 tokens; the last page has fewer."""
    keepa = await simulate()

    answer = await keepa.deals(DE, DEALS)

    assert answer.deals
    assert all(deal.current and deal.creation_date for deal in answer.deals)
    assert answer.misfits == []
    assert answer.is_last_page == (len(answer.deals) < 150)
    assert [(call.operation, call.domain, call.status) for call in calls] == [("deal", "DE", 200)]
    assert calls[0].envelope is not None
    assert calls[0].envelope.tokens_consumed == 5


async def test_a_plan_without_deals_says_so(simulate: Simulate) -> None:
    """404 is the plan's limit, worth another question in a day."""
    keepa = await simulate(no_deals=True)

    with pytest.raises(errors.NotInPlanError) as caught:
        await keepa.deals(DE, DEALS)

    assert caught.value.retry_after_ms == 86_400_000


async def test_best_sellers_come_best_first(simulate: Simulate, calls: list[Call]) -> None:
    """The whole list for 50 tokens."""
    keepa = await simulate()

    answer = await keepa.bestsellers(DE, "340843031")

    assert answer.bestsellers is not None
    assert len(answer.bestsellers.asin_list) > 10
    assert answer.envelope is not None
    assert answer.envelope.tokens_consumed == 50
    assert (calls[0].operation, calls[0].error) == ("bestsellers", None)


async def test_a_category_may_have_no_best_sellers(simulate: Simulate) -> None:
    """Null for the list is an answer, not an error."""
    keepa = await simulate()

    assert (await keepa.bestsellers(DE, "0")).bestsellers is None


async def test_the_finder_tells_bare_asins(simulate: Simulate, calls: list[Call]) -> None:
    """The page that was asked for; 10 tokens and 1 for each 100 of them."""
    keepa = await simulate()
    first = FinderQuery(categories_include=(340843031,), per_page=150, page=0)

    page = await keepa.find(DE, first)
    last = await keepa.find(DE, msgspec.structs.replace(first, page=2))

    assert (len(page.asins), len(last.asins)) == (150, 100)
    assert set(page.asins).isdisjoint(last.asins)
    assert page.envelope is not None
    assert page.envelope.tokens_consumed == 12
    assert (calls[0].operation, calls[0].domain, calls[0].error) == ("query", "DE", None)


async def test_a_wrong_key_is_told_from_a_wrong_request(
    simulate: Simulate, calls: list[Call]
) -> None:
    """Its figures, all 0, are neither raised nor reported."""
    keepa = await simulate(key="another")

    with pytest.raises(errors.KeyRejectedError) as caught:
        await keepa.token()

    assert caught.value.envelope is None
    assert [(call.status, call.envelope) for call in calls] == [(400, None)]


async def test_a_request_that_keepa_refuses_says_why(simulate: Simulate) -> None:
    """Keepa's own words are in the message; the same request is not worth sending again."""
    keepa = await simulate()

    with pytest.raises(errors.RejectedError, match="asin") as caught:
        await keepa.products(DE, ["nonsense"], ProductQuery())

    assert caught.value.retry_after_ms is None
    assert caught.value.envelope is not None
    assert caught.value.envelope.tokens_left == 1200


FAILURES: dict[str, tuple[type[KeepaError], int | None, int | None]] = {
    # Fault: its error, the status seen, and the count that its figures tell.
    "400": (errors.RejectedError, 400, 1200),
    "402": (errors.PaymentRequiredError, 402, 1200),
    "404": (errors.NotInPlanError, 404, 1200),
    "405": (errors.MethodNotAllowedError, 405, 1200),
    "429": (errors.NotEnoughTokensError, 429, 0),
    "500": (errors.ServerError, 500, 1200),
    "503": (errors.ServerError, 503, 1200),
    "error200": (errors.ServerError, 200, 1200),
    "notjson": (errors.BadAnswerError, 200, None),
    "refused": (errors.TimedOutError, None, None),
    "reset": (errors.TimedOutError, None, None),
    "timeout": (errors.TimedOutError, None, None),
    "cut": (errors.TimedOutError, 200, None),
    "truncated": (errors.BadAnswerError, 200, None),
    "badgzip": (errors.BadAnswerError, 200, None),
    "empty": (errors.BadAnswerError, 200, None),
}
SPOILT = {
    # Fault: how many of five products are read, how many set aside, and the count afterwards.
    "slow": (5, 0, 1195),
    "wrongtypes": (4, 1, 1195),
    "missing": (4, 0, 1195),
    "nulls": (5, 0, 1195),
    "negative": (5, 0, -200),
}


def test_every_fault_has_its_row() -> None:
    """A fault that the simulator learns is asked for here."""
    assert {*FAILURES, *SPOILT} == {*FAULTS}


@pytest.mark.parametrize("fault", FAILURES)
async def test_a_fault_becomes_its_error(simulate: Simulate, calls: list[Call], fault: str) -> None:
    """The type, the status, and the count where the answer brought one; reported once."""
    timeouts = IMPATIENT if fault == "timeout" else None
    keepa = await simulate(faults=(Fault(fault, 1.0, "product"),), timeouts=timeouts)
    kind, status, left = FAILURES[fault]

    with pytest.raises(KeepaError) as caught:
        await five(keepa)

    error = caught.value
    assert type(error) is kind
    assert (error.envelope.tokens_left if error.envelope else None) == left
    assert error.remedy
    (call,) = calls
    assert (call.operation, call.domain, call.asin_count) == ("product", "DE", 5)
    assert (call.status, call.envelope, call.error) == (status, error.envelope, error.message)


@pytest.mark.parametrize("fault", FAILURES)
async def test_the_call_after_a_fault_is_whole(simulate: Simulate, fault: str) -> None:
    """No fault of one call spoils the connection for the next."""
    timeouts = IMPATIENT if fault == "timeout" else None
    keepa = await simulate(faults=(Fault(fault, 1.0, "product"),), timeouts=timeouts)

    with pytest.raises(KeepaError):
        await five(keepa)

    assert (await keepa.token()).refill_rate == 20


@pytest.mark.parametrize("fault", SPOILT)
async def test_a_fault_of_one_item_costs_only_that(
    simulate: Simulate, calls: list[Call], fault: str
) -> None:
    """The call succeeds with what is whole of its answer."""
    keepa = await simulate(faults=(Fault(fault, 1.0, "product"),), time_factor=1000.0)
    read, set_aside, left = SPOILT[fault]

    answer = await five(keepa)

    assert (len(answer.products), len(answer.misfits)) == (read, set_aside)
    assert {misfit.asin for misfit in answer.misfits} <= {*ASINS}
    assert answer.envelope.tokens_left == left
    assert [(call.error, call.envelope) for call in calls] == [(None, answer.envelope)]


@pytest.mark.parametrize(("fault", "set_aside"), [("wrongtypes", 1), ("nulls", 0)])
async def test_a_deal_that_does_not_fit_costs_only_itself(
    simulate: Simulate, fault: str, set_aside: int
) -> None:
    """All others of the page are there."""
    keepa = await simulate(faults=(Fault(fault, 1.0),))

    answer = await keepa.deals(DE, DEALS)

    assert len(answer.misfits) == set_aside
    assert len(answer.deals) > 10


async def test_content_that_cannot_be_read_is_a_failed_call(
    simulate: Simulate, calls: list[Call]
) -> None:
    """The report says so too, with the figures, which were legible."""
    keepa = await simulate(faults=(Fault("wrongtypes", 1.0),))

    with pytest.raises(errors.BadAnswerError) as caught:
        await keepa.bestsellers(DE, "340843031")

    assert caught.value.envelope is not None
    assert caught.value.envelope.tokens_consumed == 50
    (call,) = calls
    assert (call.error, call.envelope) == (caught.value.message, caught.value.envelope)


async def test_a_slow_answer_ends_with_the_whole_calls_time(
    simulate: Simulate, calls: list[Call]
) -> None:
    """Bytes that keep coming do not keep a call alive for ever."""
    keepa = await simulate(faults=(Fault("slow", 1.0),), timeouts=Timeouts(call_s=1.0))

    with pytest.raises(errors.TimedOutError, match="not within 1 s"):
        await five(keepa)

    assert [(call.status, call.envelope) for call in calls] == [(200, None)]
