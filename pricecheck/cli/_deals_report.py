"""The best deals as a report to read or to send, in Markdown or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from pricecheck.deliver.wording import Language, one_line, price
from pricecheck.records import Deal

_WORDS: Final = {
    "en": ("Deals of {day}", "the {shown} best of {count}", "{off} % off {usual}", "score {score}"),
    "de": (
        "Angebote vom {day}",
        "die {shown} besten von {count}",
        "{off} % unter {usual}",
        "{score} Punkte",
    ),
}
# What means something in Markdown, where it stands in a title.
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|~])")


def without_doubles(deals: Iterable[Deal]) -> list[Deal]:
    """Return one deal of each product, best score first.

    Variants that differ in nothing that is shown count as one.
    """
    best: dict[tuple[str, str], Deal] = {}
    seen: set[tuple[str, str | None, int | None]] = set()
    for deal in sorted(deals, key=lambda deal: -deal.deal_score):
        looks = (deal.domain, deal.title or deal.asin, deal.current_price)
        if (deal.domain, deal.asin) not in best and looks not in seen:
            best[deal.domain, deal.asin] = deal
            seen.add(looks)
    return list(best.values())


def title(day: str, language: Language, *, simulated: bool) -> str:
    """Return the report's title."""
    return ("SIMULATED: " if simulated else "") + _WORDS[language][0].format(day=day)


def markdown(deals: Sequence[Deal], count: int, language: Language) -> str:
    """Write deals as a list in Markdown; `count` is how many there were to choose from."""
    rows = []
    for number, deal in enumerate(deals, start=1):
        name = _SPECIAL.sub(r"\\\1", _name(deal))
        rows.append(f"{number}. [{name}]({deal.url}): {_facts(deal, language)}")
    return "\n".join([_summary(deals, count, language), "", *rows])


def html(deals: Sequence[Deal], count: int, language: Language) -> str:
    """Write deals as a list in HTML; `count` is how many there were to choose from."""
    rows = [
        f'<li><a href="{escape(deal.url)}">{escape(_name(deal))}</a>: '
        f"{escape(_facts(deal, language))}</li>"
        for deal in deals
    ]
    summary = escape(_summary(deals, count, language))
    return "\n".join([f"<p>{summary}</p>", "<ol>", *rows, "</ol>"])


def _summary(deals: Sequence[Deal], count: int, language: Language) -> str:
    return _WORDS[language][1].format(shown=len(deals), count=count)


def _name(deal: Deal) -> str:
    return one_line(deal.title or deal.asin)


def _facts(deal: Deal, language: Language) -> str:
    """Say what is known of a deal."""
    _, _, off, score = _WORDS[language]
    facts = [deal.domain]
    if deal.current_price is not None:
        facts.append(price(deal.current_price, deal.currency, language))
    if deal.discount_percent is not None and deal.original_price is not None:
        usual = price(deal.original_price, deal.currency, language)
        facts.append(off.format(off=deal.discount_percent, usual=usual))
    if deal.rating is not None:
        reviews = f" ({deal.review_count})" if deal.review_count is not None else ""
        facts.append(f"★ {deal.rating:.1f}{reviews}")
    return ", ".join([*facts, score.format(score=f"{deal.deal_score:.0f}")])
