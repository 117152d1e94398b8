"""The page as one HTML file: facts in, text out.

Everything that came from outside is escaped here, and the page's own policy lets nothing run but
the script and the style whose hashes it names, and nothing be fetched at all: a title that got
through could still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any, Final

import msgspec

from pricecheck.durations import format_duration
from pricecheck.keepa.tables import ASIN, BY_CODE, PRICES, Marketplace
from pricecheck.keepa.time import to_rfc3339
from pricecheck.page.facts import Facts, Product, Spending
from pricecheck.page.steps import flat
from pricecheck.records import Deal
from pricecheck.snapshot import Snapshot, TaskStatus

_SIGNS: Final = {"EUR": "€", "GBP": "£", "USD": "$", "JPY": "¥", "INR": "₹", "BRL": "R$"}
_SPOKEN: Final = {
    "AMAZON": "Amazon",
    "NEW": "New",
    "USED": "Used",
    "LISTPRICE": "List price",
    "NEW_FBM_SHIPPING": "New, sent by the seller",
    "NEW_FBA": "New, sent by Amazon",
    "BUY_BOX_SHIPPING": "Buy box",
    "BUY_BOX_USED_SHIPPING": "Buy box, used",
    "EBAY_NEW_SHIPPING": "eBay, new",
    "EBAY_USED_SHIPPING": "eBay, used",
    "PRIME_EXCL": "For Prime members",
}
_FIRST: Final = (
    "NEW",
    "AMAZON",
    "USED",
    "BUY_BOX_SHIPPING",
    "WAREHOUSE",
    "NEW_FBA",
    "REFURBISHED",
    "LISTPRICE",
)
"""The price types that get the eight colours; those after them get the same with dashes."""


def write_page(facts: Facts, snapshot: Snapshot | None, *, simulated: bool, since_s: int) -> str:
    """Return the page; `snapshot` is the running daemon's, None when it does not run."""
    style, script = (files("pricecheck.page").joinpath(f"page.{kind}") for kind in ("css", "js"))
    css, js = f"\n{style.read_text('utf-8')}", f"\n{script.read_text('utf-8')}"
    policy = (
        f"default-src 'none'; script-src '{_hash(js)}'; style-src '{_hash(css)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    shell = Template(files("pricecheck.page").joinpath("page.html").read_text("utf-8"))
    now = to_rfc3339(facts.now_ms)
    return shell.substitute(
        policy=policy,
        style=css,
        script=js,
        data=_as_data(_data(facts, since_s)),
        title=f"{'SIMULATED: ' if simulated else ''}pricecheck, {now[:10]}",
        banner='<p class="simulated">SIMULATED: no price here is real</p>' if simulated else "",
        now=now,
        now_text=f"{now[:10]} {now[11:16]} UTC",
        deals=_deals(facts),
        drops=_drops(facts),
        budget=_budget(facts.spending),
        tasks=_tasks(snapshot),
        footer=_footer(facts),
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# What the script reads.


def _data(facts: Facts, since_s: int) -> dict[str, Any]:
    used = {name for product in facts.products for name in product.series}
    order = [*_FIRST, *(each.name for each in PRICES if each.name not in _FIRST)]
    markets = {product.market.code: product.market for product in facts.products}
    return {
        "begin": facts.begin_ms,
        "end": (facts.now_ms - facts.begin_ms) // 60_000,
        "span": f"{since_s // 86_400} days" if since_s % 86_400 == 0 else format_duration(since_s),
        "order": order,
        "labels": {name: _spoken(name) for name in order if name in used},
        "markets": {
            code: {"sign": _sign(market), "digits": market.minor_digits, "tld": market.tld}
            for code, market in markets.items()
        },
        "products": [_row(product, order) for product in facts.products],
    }


def _row(product: Product, order: list[str]) -> list[Any]:
    price = product.price
    facts = [] if price.rating is None else [_stars(price.rating, price.review_count)]
    if price.sales_rank is not None:
        facts.append(f"rank {price.sales_rank:,}")
    return [
        product.asin,
        product.market.code,
        price.title or "",
        price.current_price,
        product.week_percent,
        product.target,
        product.checked,
        price.stats.get("avg90", {}).get("NEW"),
        facts,
        [[name, *flat(product.series[name])] for name in order if name in product.series],
    ]


def _as_data(data: Any) -> str:
    """Write JSON that no HTML parser can see an end tag or a comment in."""
    text = msgspec.json.encode(data).decode()
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# The tables.


def _deals(facts: Facts) -> str:
    if not facts.deals:
        return _note("No deal is stored. Rules for deals are [[deals]] in the config.")
    tracked = {(each.market.code, each.asin) for each in facts.products}
    rows = [
        (
            _product_cell(deal.title, deal.domain, deal.asin, tracked, _stars_of(deal)),
            _now_and_before(deal.current_price, deal.original_price, BY_CODE[deal.domain]),
            "" if deal.discount_percent is None else f"&minus;{deal.discount_percent}&nbsp;%",
            f"{deal.deal_score:.0f}",
        )
        for deal in facts.deals
    ]
    caption = f"The best of {facts.deals_in_all:,} that were last seen; score 0 to 100"
    return _table(caption, ("Product", "Now", "Off", "Score"), rows, kind="stack")


def _drops(facts: Facts) -> str:
    if not facts.drops:
        return _note("No price of a watched product is lower than a week ago.")
    rows = [
        (
            _product_cell(each.price.title, each.market.code, each.asin, None, ""),
            _now_and_before(each.price.current_price, each.week_ago, each.market),
            f'<span class="good">&#9660;&nbsp;{-(each.week_percent or 0):.1f}&nbsp;%</span>',
        )
        for each in facts.drops
    ]
    caption = "New, against the same product's price seven days ago"
    return _table(caption, ("Product", "Now", "Change"), rows, kind="stack")


def _budget(spending: Spending) -> str:
    if not spending.operations:
        return _note("No call to Keepa is stored of the last day.")
    calls = sum(each.calls for each in spending.operations)
    failed = sum(each.failed for each in spending.operations)
    figures = [("Spent in a day", f"{spending.tokens:,} tokens")]
    if spending.refill_rate:
        daily = spending.refill_rate * 24 * 60
        figures.append(
            ("Of what comes in", f"{spending.tokens * 100 / daily:.0f}&nbsp;% of {daily:,}")
        )
    if spending.tokens_left is not None:
        figures.append(("Left", f"{spending.tokens_left:,} tokens"))
    figures.append(("Calls", f"{calls:,}, {failed:,} failed"))
    rows = [
        (
            escape(each.name),
            f"{each.calls:,}",
            f"{each.failed:,}",
            f"{each.tokens:,}",
            _latency(each.median_ms),
        )
        for each in spending.operations
    ]
    told = "".join(f"<div><dt>{term}</dt><dd>{text}</dd></div>" for term, text in figures)
    headers = ("Call", "Calls", "Failed", "Tokens", "Median")
    return (
        f'<dl class="large">{told}</dl>{_bars(spending.by_hour)}'
        f"{_table('Calls of the last 24 hours', headers, rows)}"
    )


def _latency(ms: float) -> str:
    return f"{ms:,.0f}&nbsp;ms" if ms < 10_000 else f"{ms / 1000:,.0f}&nbsp;s"


def _bars(by_hour: Sequence[int]) -> str:
    """Draw tokens by hour, as wide as the page lets it."""
    most = max(by_hour) or 1
    bars = "".join(
        f'<rect class="bar" x="{hour * 10 + 1}" y="{60 - 60 * tokens / most:.1f}" width="8" '
        f'height="{60 * tokens / most:.1f}"><title>{_hours_ago(len(by_hour) - hour)}: '
        f"{tokens:,} tokens</title></rect>"
        for hour, tokens in enumerate(by_hour)
    )
    width = len(by_hour) * 10
    label = (
        f"Tokens by hour over the last day: at most {max(by_hour):,} in an hour, "
        f"{by_hour[-1]:,} in this one."
    )
    return (
        f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} 60" height="60" '
        f'preserveAspectRatio="none">{bars}'
        f'<line class="axis" x1="0" x2="{width}" y1="59.5" y2="59.5"/></svg>'
        f'<p class="note under">Tokens by hour over the last day, at most {max(by_hour):,}</p>'
    )


def _hours_ago(hours: int) -> str:
    return "this hour" if hours == 1 else f"{hours - 1} h ago"


def _tasks(snapshot: Snapshot | None) -> str:
    if snapshot is None:
        return _note("The daemon did not run when this page was written.")
    reasons = "".join(f'<p class="warning">{escape(reason)}</p>' for reason in snapshot.reasons)
    up = format_duration(max(60, round(snapshot.uptime_s / 60) * 60))
    caption = f"Up {up}, {'healthy' if snapshot.health == 'ok' else 'degraded'}"
    rows = [_task(task) for task in snapshot.tasks]
    return reasons + _table(caption, ("Task", "State", "Restarts"), rows)


def _task(task: TaskStatus) -> tuple[str, ...]:
    ails = task.state in ("backing off", "stuck")
    why = f'<span class="under">{escape(task.why)}</span>' if task.why else ""
    if task.last_error:
        why += f'<span class="under bad">Last error: {escape(task.last_error)}</span>'
    return (
        escape(task.name),
        f'<span class="{"bad" if ails else ""}">{escape(task.state)}</span>{why}',
        f"{task.restarts:,}",
    )


def _footer(facts: Facts) -> str:
    shown, watched = len(facts.products), facts.watched
    of_all = f" of {watched:,} watched" if shown < watched else ""
    return (
        f"{shown:,}{of_all} products. "
        "Prices without an offer are gaps; a line ends at the last check. "
        "Very long histories are cut to their lows, highs and ends. "
        "Times are UTC. This file asks nobody for anything."
    )


# Their parts.


def _table(
    caption: str, headers: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = ""
) -> str:
    """Write a table; the first column heads its row, and all but texts stand to the right.

    The roles are said aloud because a style that lays rows out anew, on a phone, would otherwise
    take them away in some browsers.
    """
    number = [place > 0 and header != "State" for place, header in enumerate(headers)]
    kinds = [' class="number"' if each else "" for each in number]
    head = "".join(
        f'<th role="columnheader" scope="col"{kind}>{header}</th>'
        for kind, header in zip(kinds, headers, strict=True)
    )
    body = "".join(
        f'<tr role="row"><th role="rowheader" scope="row">{first}</th>'
        + "".join(
            f'<td role="cell"{kind} data-label="{header}">{cell}</td>'
            for kind, header, cell in zip(kinds[1:], headers[1:], cells, strict=True)
        )
        + "</tr>\n"
        for first, *cells in rows
    )
    return (
        f'<table role="table" class="{kind}"><caption>{escape(caption)}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">\n{body}</tbody></table>'
    )


def _product_cell(
    title: str | None, domain: str, asin: str, tracked: set[tuple[str, str]] | None, more: str
) -> str:
    """Name a product, with a link to its chart here, or to its page where it has none."""
    name = escape(title or asin)
    if tracked is None or (domain, asin) in tracked:
        name = f'<a href="#p-{domain}-{escape(asin)}">{name}</a>'
    elif ASIN.fullmatch(asin):
        url = f"https://www.amazon.{BY_CODE[domain].tld}/dp/{asin}"
        name = f'<a href="{url}" rel="noreferrer">{name}</a>'
    under = " &middot; ".join(filter(None, (domain, escape(asin), more)))
    return f'{name}<span class="under">{under}</span>'


def _now_and_before(now: int | None, before: int | None, market: Marketplace) -> str:
    was = f'<span class="under">was&nbsp;{_money(before, market)}</span>' if before else ""
    return f"{_money(now, market)}{was}"


def _money(minor: int | None, market: Marketplace) -> str:
    if minor is None:
        return "no offer"
    return f"{_sign(market)}{minor / 10**market.minor_digits:,.{market.minor_digits}f}"


def _sign(market: Marketplace) -> str:
    return _SIGNS.get(market.currency, f"{market.currency} ")


def _stars(rating: float, reviews: int | None) -> str:
    return f"{rating:.1f} stars" + ("" if reviews is None else f" of {reviews:,}")


def _stars_of(deal: Deal) -> str:
    return "" if deal.rating is None else _stars(deal.rating, deal.review_count)


def _spoken(name: str) -> str:
    spoken = name.removesuffix("_SHIPPING").replace("_", " ").capitalize()
    return _SPOKEN.get(name, spoken)


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'
