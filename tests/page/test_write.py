"""The page as text: what stands in it, and what can't."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from pricecheck.page.facts import MOST_POINTS, Facts, Spending, _thinned
from pricecheck.page.write import write_page
from pricecheck.snapshot import Snapshot, TaskStatus
from tests.cli.test_status import PRICES, snapshot
from tests.page.conftest import ASIN, DAY, deal, facts, product

HOSTILE = "</script ><script>alert(1)</script><img src=x onerror=alert(2)>\"'<!-- &amp; \u2028"


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and the text of its scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in_script = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)


def written(
    given: Facts | None = None, state: Snapshot | None = None, *, simulated: bool = False
) -> str:
    return write_page(given or facts(), state, simulated=simulated, since_s=90 * 86_400)


def task(**fields: Any) -> TaskStatus:
    return msgspec.structs.replace(PRICES, **fields)


def test_hostile_texts_stay_texts() -> None:
    """Whatever Keepa or an error says adds no tag, no attribute and no script."""
    plain = Parsed(written(facts(), snapshot(reasons=["x"], tasks=[task(last_error="x")])))
    hostile = Parsed(
        written(
            facts(
                products=[product(title=HOSTILE)],
                deals=[deal(title=HOSTILE)],
                spending=Spending(
                    [0] * 24,
                    [type(facts().spending.operations[0])(HOSTILE, 1, 0, 1, 1.0)],
                    None,
                    None,
                ),
            ),
            snapshot(
                reasons=[HOSTILE],
                tasks=[task(name=HOSTILE, why=HOSTILE, last_error=HOSTILE)],
            ),
        )
    )

    def kinds(parsed: Parsed) -> list[tuple[str, list[str]]]:
        shapes = ("rect", "title", "div", "dt", "dd")  # the figures of the budget differ
        return [(tag, sorted(attrs)) for tag, attrs in parsed.tags if tag not in shapes]

    assert kinds(hostile) == kinds(plain)
    assert len(hostile.scripts) == len(plain.scripts) == 3
    assert "<" not in hostile.scripts[1]
    assert json.loads(hostile.scripts[1])["products"][0][2] == HOSTILE


def test_a_hostile_asin_of_a_deal_is_no_link() -> None:
    """Only what has the form of an ASIN becomes part of an address."""
    page = written(facts(deals=[deal(asin='"><b>', title=None)]))

    assert '"><b>' not in page
    assert "&quot;&gt;&lt;b&gt;" in page


def test_nothing_is_fetched_from_anywhere() -> None:
    """The policy allows no connection, and only the script and style that it knows by hash."""
    parsed = Parsed(written())

    [policy] = [
        attrs["content"]
        for tag, attrs in parsed.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    style, _, script = parsed.scripts
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (script, style)
    ]
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
    loading = {"src", "srcset", "style", "data", "poster", "action", "background"}
    assert not [attrs for _, attrs in parsed.tags if loading & set(attrs)]
    assert not [tag for tag, _ in parsed.tags if tag in ("link", "iframe", "object", "base")]
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest", "".join(parsed.scripts))


@pytest.mark.parametrize("simulated", [True, False])
def test_invented_prices_are_called_so(simulated: bool) -> None:
    """On top, and in the window's title."""
    page = written(simulated=simulated)

    assert page.count("SIMULATED") == (2 if simulated else 0)


def test_prices_are_written_in_their_currency() -> None:
    """With its sign and its decimals."""
    page = written(
        facts(
            deals=[
                deal(),
                deal(domain="JP", currency="JPY", current_price=4_980),
                deal(domain="CA", currency="CAD", current_price=None),
            ]
        )
    )

    assert "£19.99" in page
    assert "¥4,980" in page
    assert "no offer" in page
    assert "CAD 39.99" in page


def test_a_deal_leads_to_its_chart_or_to_its_page() -> None:
    """To the chart where the product is watched."""
    page = written(facts(deals=[deal(), deal(asin=ASIN, domain="DE")]))

    assert '<a href="https://www.amazon.co.uk/dp/B000000001" rel="noreferrer">A mouse</a>' in page
    assert f'<a href="#p-DE-{ASIN}">A mouse</a>' in page


def test_tasks_are_those_of_the_running_daemon() -> None:
    """What ails stands out, in words."""
    page = written(
        state=snapshot(
            health="degraded",
            uptime_s=7_200.0,
            reasons=["Keepa answers 402"],
            tasks=[task(), task(name="deals", state="backing off", restarts=3, last_error="no")],
        )
    )

    assert "Up 2h, degraded" in page
    assert "Keepa answers 402" in page
    assert re.search(r"deals</th>.*backing off.*Last error: no.*>3<", page)


def test_without_a_daemon_that_is_said() -> None:
    """An empty table would look like a daemon without tasks."""
    assert "The daemon did not run when this page was written." in written()


def test_an_empty_store_makes_a_page_that_says_so() -> None:
    """Each part in its own words."""
    page = written(
        facts(products=[], deals=[], deals_in_all=0, spending=Spending([0] * 24, [], None, None))
    )

    assert "No deal is stored" in page
    assert "No price of a watched product is lower" in page
    assert "No call to Keepa is stored" in page


def test_a_thousand_products_with_long_histories_stay_under_three_megabytes() -> None:
    """The longest histories are cut; nobody's is lost."""
    minutes = range(0, 90 * DAY, 90 * DAY // 500)
    long = {
        name: [(minute, 1_000 + minute * 7 % 5_000) for minute in minutes]
        for name in ("AMAZON", "NEW", "USED")
    }
    short = product(title="short")

    products = _thinned([short, *[product(series=long) for _ in range(999)]])
    page = written(facts(products=products))

    assert sum(len(points) for each in products for points in each.series.values()) <= MOST_POINTS
    assert products[0] == short
    assert len(page.encode()) < 3_000_000
