"""The page in a real browser: what it shows, what it does, and whom it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pricecheck.page.facts import Facts
from pricecheck.page.write import write_page
from tests.page.conftest import ASIN, OTHER, Browser, deal, facts, product

TAB, ENTER, LEFT, ESCAPE = "\ue004", "\ue007", "\ue012", "\ue00c"
MANY = [
    product(
        asin=f"B{number:09d}",
        domain=("DE", "UK")[number % 2],
        title=f"Keyboard {number}",
        current_price=10_000 - number,
        week_percent=float(number % 50 - 25),
    )
    for number in range(100)
]
TITLES = "[...document.querySelectorAll('#list h3')].map((title) => title.textContent)"

Show = Callable[..., Browser]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Show:
    """Open a page with these facts in the browser."""

    def open_it(given: Facts | None = None, **options: Any) -> Browser:
        path = tmp_path / "page.html"
        path.write_text(
            write_page(given or facts(), None, simulated=True, since_s=90 * 86_400), "utf-8"
        )
        browser.logged()
        browser.open(path, **options)
        return browser

    return open_it


def type_in(browser: Browser, name: str, value: str, event: str = "input") -> list[str]:
    """Give a control a value as a person would; return the titles that are shown then."""
    script = (
        "const control = document.getElementById(arguments[0]); control.value = arguments[1];"
        f"control.dispatchEvent(new Event(arguments[2])); return {TITLES};"
    )
    found: list[str] = browser.run(script, name, value, event)
    return found


def draw(browser: Browser) -> None:
    """Bring the first chart into view, and wait until it is drawn."""
    browser.run("document.querySelector('.plot').scrollIntoView({ behavior: 'instant' })")
    browser.wait("document.querySelector('.plot svg')")


def test_nothing_goes_wrong_and_nothing_is_fetched(show: Show) -> None:
    """The console is silent, and no address but the file's own was asked for."""
    browser = show()
    draw(browser)

    assert browser.logged() == []
    assert browser.run("return performance.getEntriesByType('resource').length") == 0


def test_the_policy_stops_what_a_planted_script_would_do(show: Show) -> None:
    """No script but ours runs, and no connection is made, whoever asks for it."""
    browser = show()

    blocked = browser.post(
        "execute/async",
        script="""
            const done = arguments[0], seen = [];
            document.addEventListener("securitypolicyviolation", (event) => {
                seen.push(event.effectiveDirective);
                if (seen.length === 3) done(seen.sort());
            });
            const script = document.createElement("script");
            script.textContent = "window.planted = 1";
            document.body.append(script);
            const image = new Image();
            image.src = "http://127.0.0.1:9/x.png";
            fetch("http://127.0.0.1:9/").catch(() => {});
        """,
        args=[],
    )

    assert blocked == ["connect-src", "img-src", "script-src-elem"]
    assert browser.run("return window.planted") is None
    browser.logged()


def test_a_title_with_markup_is_shown_as_it_is(show: Show) -> None:
    """In the tables, on the card and in what a screen reader says of the chart."""
    title = '</script ><script>window.planted = 1</script><b>bold</b> "A" &amp;'

    browser = show(facts(products=[product(title=title)], deals=[deal(title=title)]))

    shown = browser.run("return [...document.querySelectorAll('th a, h3 a')].map((a) => a.text)")
    assert shown == [title] * 3
    assert title in browser.run("return document.querySelector('.plot').ariaLabel")
    assert browser.run("return window.planted") is None
    assert browser.run("return document.querySelectorAll('b').length") == browser.run(
        "return document.querySelectorAll('.readout b').length"
    )


def test_a_chart_is_a_step_line_with_gaps(show: Show) -> None:
    """Each price type a path of level and upright strokes; the pen lifts where no offer was."""
    browser = show()
    draw(browser)

    paths = browser.run(
        "return [...document.querySelectorAll('.plot .step')].map((path) => path.getAttribute('d'))"
    )
    assert [[letter for letter in path if letter.isalpha()] for path in paths] == [
        ["M", "H", "V", "H", "M", "H"],
        ["M", "H"],
    ]
    names = browser.run(
        "return [...document.querySelectorAll('.types button')].map((b) => b.innerText)"
    )
    assert names == ["New", "Amazon"]


def test_charts_out_of_sight_are_not_drawn(show: Show) -> None:
    """And of a thousand products only the first page is built."""
    browser = show(facts(products=MANY * 10))

    built = browser.run("return document.querySelectorAll('.plot').length")
    draw(browser)

    assert built == 24
    assert browser.run("return document.querySelectorAll('.plot svg').length") < 24
    assert browser.run("return document.getElementById('count').textContent") == "1,000 products"


def test_search_finds_by_title_and_asin(show: Show) -> None:
    """In any order and case; the count is told to whoever can't see the list."""
    browser = show(facts(products=MANY))

    assert type_in(browser, "search", "77 KEYB") == ["Keyboard 77"]
    assert type_in(browser, "search", "b000000042") == ["Keyboard 42"]
    assert browser.run("return document.getElementById('count').textContent") == "1 of 100 products"
    assert type_in(browser, "search", "mouse") == []
    assert browser.run("return document.getElementById('count').role || 'status'") == "status"


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("0", "Keyboard 0"),
        ("1", "Keyboard 0"),
        ("2", "Keyboard 49"),
        ("4", "Keyboard 99"),
        ("5", "Keyboard 0"),
    ],
)
def test_order_and_marketplace(show: Show, order: str, first: str) -> None:
    """Each order begins with what it promises, in the marketplace chosen."""
    browser = show(facts(products=MANY))

    assert type_in(browser, "order", order, "change")[0] == first
    assert all(int(title.split()[1]) % 2 for title in type_in(browser, "market", "UK", "change"))


def test_more_continues_where_the_list_ended(show: Show) -> None:
    """By keyboard: the focus goes on to the first new product."""
    browser = show(facts(products=MANY))
    browser.run("document.getElementById('more').focus()")

    browser.press(ENTER)

    assert browser.run(f"return {TITLES}.length") == 48
    assert browser.run("return document.activeElement.querySelector('h3').textContent") == (
        "Keyboard 24"
    )


def test_a_drop_leads_to_its_chart(show: Show) -> None:
    """Even when its product is not on the first page of the list."""
    deep = product(asin=OTHER, title="The deepest", week_percent=-60.0)
    browser = show(facts(products=[*MANY, deep]))

    browser.run("document.querySelector('#drops a').click()")

    browser.wait(f"document.activeElement.id === 'p-DE-{OTHER}'")
    assert browser.run(f"return {TITLES}") == ["The deepest"]


def test_a_price_type_can_be_hidden(show: Show) -> None:
    """Its button says so to a screen reader, and its line goes."""
    browser = show()
    draw(browser)

    browser.run("document.querySelector('.types button').click()")

    assert browser.run("return document.querySelectorAll('.plot .step').length") == 1
    assert browser.run("return document.querySelector('.types button').ariaPressed") == "false"


def test_arrow_keys_step_through_the_changes(show: Show) -> None:
    """From the last one back; what is read out is what was in force then."""
    browser = show()
    draw(browser)
    readout = "return document.querySelector('.readout').textContent"
    browser.run("document.querySelector('.plot').focus()")

    browser.press(LEFT)
    last = browser.run(readout)
    browser.press(LEFT)
    gap = browser.run(readout)
    browser.press(ESCAPE)
    end = browser.run(readout)

    assert last.endswith("New €45.00, Amazon €51.00")
    assert gap.endswith("New no offer, Amazon €51.00")
    assert end.startswith("Last checked")


def test_changes_are_a_table_too(show: Show) -> None:
    """For whoever can't see a chart: newest first, with headers."""
    browser = show()

    browser.run("document.querySelector('details').open = true")

    browser.wait("document.querySelector('details tbody tr')")
    rows = browser.run(
        "return [...document.querySelectorAll('details tr')].map((row) => row.cells[2].textContent)"
    )
    assert rows == ["Price from then on", "€45.00", "no offer", "€40.00", "€50.00", "€51.00"]


def test_the_first_key_offers_to_skip_to_the_products(show: Show) -> None:
    """Visible once it has the focus, and it does lead there."""
    browser = show()

    browser.press(TAB)
    text = browser.run("return document.activeElement.textContent")
    left = browser.run("return document.activeElement.getBoundingClientRect().left")
    browser.press(ENTER)

    assert text == "Skip to the products"
    assert left >= 0
    browser.wait("document.activeElement.id === 'products'")


def test_whatever_can_have_the_focus_shows_it(show: Show) -> None:
    """By an outline at each stop of the Tab key."""
    browser = show()
    stops = []
    for _ in range(40):
        browser.press(TAB)
        stops.append(
            browser.run(
                "const it = document.activeElement, style = getComputedStyle(it);"
                "return [it.tagName, it.className, style.outlineStyle, style.outlineWidth]"
            )
        )
        if stops[-1][0] == "SUMMARY":
            break

    assert stops[-1][0] == "SUMMARY"
    assert {stop[0] for stop in stops} >= {"A", "INPUT", "SELECT", "BUTTON", "DIV"}
    assert [stop for stop in stops if stop[2:] == ["none", "0px"]] == []


def test_every_control_and_table_has_a_name(show: Show) -> None:
    """As the browser tells them to a screen reader, on a phone as well."""
    browser = show(width=360)
    draw(browser)

    nodes = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]
    roles = {role for role, _ in named}
    must = {"button", "link", "searchbox", "combobox", "image", "table", "article", "region"}
    assert must | {"columnheader", "rowheader", "cell", "main", "navigation"} <= roles
    assert [role for role, name in named if role in must and not name.strip()] == []


CONTRASTS = """
const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const light = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((part) => linear(Number(part) / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (one, other) => {
    const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
};
const behind = (it) => {
    const color = getComputedStyle(it).backgroundColor;
    return color === "rgba(0, 0, 0, 0)" ? behind(it.parentElement) : color;
};
const found = [];
const tell = (it, color, least) => {
    const name = `${it.tagName} ${it.getAttribute("class")} ${it.textContent.slice(0, 20)}`;
    found.push([name, ratio(color, behind(it)), least]);
};
for (const it of document.body.querySelectorAll("*:not(script, style, noscript, title)")) {
    const style = getComputedStyle(it);
    const says = [...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (says) tell(it, it.closest("svg") ? style.fill : style.color, 4.5);
    if (it.classList.contains("step")) tell(it, style.stroke, 3);
    if (it.classList.contains("bar")) tell(it, style.fill, 3);
}
return found;
"""


@pytest.mark.parametrize("dark", [False, True])
def test_contrast_is_enough(show: Show, dark: bool) -> None:
    """4.5 for text and 3 for lines, in every colour a chart may have (WCAG 2 AA)."""
    names = ("NEW", "AMAZON", "USED", "BUY_BOX_SHIPPING", "WAREHOUSE", "NEW_FBA")
    series = {
        name: [(0, 1_000 * place)]
        for place, name in enumerate((*names, "REFURBISHED", "LISTPRICE", "RENT"), start=1)
    }
    browser = show(facts(products=[product(series=series, target=2_000)]), dark=dark)
    draw(browser)

    measured = browser.run(CONTRASTS)

    assert len([name for name, *_ in measured if "step" in name]) == 18
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(15, 19, 24)" if dark else "rgb(244, 245, 247)"
    )
    assert [each for each in measured if each[1] < each[2]] == []


@pytest.mark.parametrize("width", [320, 360, 800, 1280])
def test_it_fits_every_width(show: Show, width: int) -> None:
    """Nothing has to be scrolled sideways to be read, not even with a title without spaces."""
    long = "Donaudampfschifffahrtsgesellschaftskapitän" * 3
    browser = show(facts(products=[product(title=long)], deals=[deal(title=long)]), width=width)
    draw(browser)

    assert browser.run(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    assert browser.run(f"return {TITLES}") == [long]


def test_without_offers_and_histories_there_is_still_a_page(show: Show) -> None:
    """A product of which nothing is known but its ASIN, and none at all."""
    bare = product(
        title=None, current_price=None, series={}, week_ago=None, week_percent=None, rating=None
    )
    browser = show(facts(products=[bare]))
    titles = browser.run(f"return {TITLES}")
    text = browser.run("return document.querySelector('article').innerText")
    empty = show(facts(products=[], deals=[]))

    assert titles == [ASIN]
    assert "no offer" in text
    assert empty.run("return document.getElementById('count').textContent") == "0 products"
    assert browser.logged() == []
