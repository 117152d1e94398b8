"""What people are told of alerts: in their language, with its way of writing prices and times.

Pure functions. The text is plain, for every service can show that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, tzinfo
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from pricecheck.keepa.tables import BY_CODE, MINOR_DIGITS
from pricecheck.records import Alert

Language: TypeAlias = Literal["en", "de"]

_SIGNS: Final = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥"}
_TITLE: Final = 80
"""Of a product's title so much is told; they run to 200 characters."""


class Voice(msgspec.Struct, frozen=True):
    """How somebody wants to be told."""

    language: Language = "en"
    zone: tzinfo | None = None  # None: the machine's
    simulated: bool = False


class Message(NamedTuple):
    """What a service is given to show."""

    title: str
    body: str


class _Words(msgspec.Struct, frozen=True):
    """A language: its sentences, and how it writes figures."""

    happened: dict[str, str]  # by the rule's `what`, with `against` or a price type where it tells
    before: str
    place: str
    rule: str
    several: str
    price_types: dict[str, str]
    time: str
    chart: str
    day: str
    point: str
    thousands: str
    price: str
    price_in_code: str  # of a currency without a sign of its own
    test: Message


_EN: Final = _Words(
    happened={
        "target": "at or below the target of {reference}",
        "drop last": "dropped by {share} from {reference}",
        "drop avg30": "{share} below the 30-day average of {reference}",
        "drop avg90": "{share} below the 90-day average of {reference}",
        "rise last": "rose by {share} from {reference}",
        "rise avg30": "{share} above the 30-day average of {reference}",
        "rise avg90": "{share} above the 90-day average of {reference}",
        "low": "lowest price of all time",
        "high": "highest price of all time",
        "stock": "back in stock",
        "spread below": "{share} below amazon.{other}, where it is {reference}",
        "spread above": "{share} above amazon.{other}, where it is {reference}",
        "stock AMAZON": "sold by Amazon itself again",
        "score": "a deal of score {score}, {share} below the usual {reference}",
    },
    before="was {old}, {change}",
    place="{kind} on amazon.{tld} since {time}",
    rule="rule",
    several="{count} price alerts",
    price_types={"NEW": "New", "USED": "Used", "AMAZON": "Sold by Amazon"},
    time="%Y-%m-%d %H:%M",
    chart="{kind} on amazon.{tld}",
    day="%Y-%m-%d",
    point=".",
    thousands=",",
    price="{sign}{figure}",
    price_in_code="{code} {figure}",
    test=Message("pricecheck: a test", "Price alerts will look for you here."),
)
_DE: Final = _Words(
    happened={
        "target": "Zielpreis von {reference} erreicht",
        "drop last": "um {share} gefallen, von {reference}",
        "drop avg30": "{share} unter dem 30-Tage-Schnitt von {reference}",
        "drop avg90": "{share} unter dem 90-Tage-Schnitt von {reference}",
        "rise last": "um {share} gestiegen, von {reference}",
        "rise avg30": "{share} über dem 30-Tage-Schnitt von {reference}",
        "rise avg90": "{share} über dem 90-Tage-Schnitt von {reference}",
        "low": "niedrigster Preis aller Zeiten",
        "high": "höchster Preis aller Zeiten",
        "stock": "wieder lieferbar",
        "spread below": "{share} unter amazon.{other}, dort {reference}",
        "spread above": "{share} über amazon.{other}, dort {reference}",
        "stock AMAZON": "wieder von Amazon selbst verkauft",
        "score": "Angebot mit {score} Punkten, {share} unter den üblichen {reference}",
    },
    before="vorher {old}, {change}",
    place="{kind} bei amazon.{tld} seit {time}",
    rule="Regel",
    several="{count} Preisalarme",
    price_types={"NEW": "Neu", "USED": "Gebraucht", "AMAZON": "Von Amazon"},
    time="%d.%m.%Y, %H:%M Uhr",
    chart="{kind} bei amazon.{tld}",
    day="%d.%m.%Y",
    point=",",
    thousands=".",
    price="{figure} {sign}",
    price_in_code="{figure} {code}",
    test=Message("pricecheck: ein Test", "Hier melden sich künftig die Preisalarme."),
)
_LANGUAGES: Final = {"en": _EN, "de": _DE}


def message(alerts: Iterable[Alert], voice: Voice) -> Message:
    """Return what to tell of one change of a price, or of several at once.

    All that rang for the same change is one thing to tell.
    """
    words = _LANGUAGES[voice.language]
    told: defaultdict[tuple[str, ...], list[Alert]] = defaultdict(list)
    for alert in alerts:
        told[alert.domain, alert.asin, alert.price_type, alert.changed_at].append(alert)
    parts = [
        Message(_headline(same[0], words), _details(same, words, voice)) for same in told.values()
    ]
    if len(parts) == 1:
        title, body = parts[0]
    else:
        title = words.several.format(count=len(parts))
        body = "\n\n".join(map("\n".join, parts))
    return Message(_marked(title, voice), body)


def test_message(voice: Voice) -> Message:
    """Return what `pricecheck notify test` sends."""
    title, body = _LANGUAGES[voice.language].test
    return Message(_marked(title, voice), body)


def chart_title(alert: Alert, voice: Voice) -> str:
    """Return what stands above a chart of the price that an alert is about."""
    words = _LANGUAGES[voice.language]
    kind = words.price_types.get(alert.price_type, alert.price_type)
    title = words.chart.format(kind=kind, tld=BY_CODE[alert.domain].tld)
    return _marked(title, voice)


def chart_day(day: datetime, voice: Voice) -> str:
    """Write a day below a chart."""
    return day.strftime(_LANGUAGES[voice.language].day)


def price(minor: int, currency: str, language: Language) -> str:
    """Write a price of the smallest unit with its currency, as the language does."""
    return _price(minor, currency, _LANGUAGES[language])


def figure(minor: int, currency: str, language: Language) -> str:
    """Write a price of the smallest unit without its currency, as the language does."""
    return _amount(minor, currency, _LANGUAGES[language])


def one_line(text: str) -> str:
    """Return a text without what would break its line, command a terminal or turn it around."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _marked(title: str, voice: Voice) -> str:
    return f"SIMULATED: {title}" if voice.simulated else title


def _headline(alert: Alert, words: _Words) -> str:
    name = one_line(alert.title or alert.asin)
    if len(name) > _TITLE:
        name = name[: _TITLE - 1].rstrip() + "…"
    now = alert.new_price
    return name if now is None else f"{_price(now, alert.currency, words)}: {name}"


def _details(same: Sequence[Alert], words: _Words, voice: Voice) -> str:
    """Say what rang for one change: why, what was before, where, since when, and the link."""
    alert = same[0]
    happened = ", ".join(_happened(one, words) for one in same)
    old, new = alert.old_price, alert.new_price
    if old and new is not None and all(one.against != "last" for one in same):
        change = _percent((new - old) * 100 / old, words, sign="+")
        before = words.before.format(old=_price(old, alert.currency, words), change=change)
        happened = f"{happened} ({before})"
    moment = datetime.fromisoformat(alert.changed_at).astimezone(voice.zone)
    where = words.place.format(
        kind=words.price_types.get(alert.price_type, alert.price_type),
        tld=BY_CODE[alert.domain].tld,
        time=moment.strftime(words.time),
    )
    rules = ", ".join(one.rule for one in same)
    return f"{happened[0].upper()}{happened[1:]}\n{where} ({words.rule}: {rules})\n{alert.url}"


def _happened(alert: Alert, words: _Words) -> str:
    """Say why a rule rang."""
    side = "below" if (alert.change_percent or 0) < 0 else "above"
    kinds = (alert.against, alert.price_type, side)
    keys = (*(f"{alert.what} {kind}" for kind in kinds), alert.what)
    sentence = next(words.happened[key] for key in keys if key in words.happened)
    reference = alert.reference_price
    return sentence.format(
        reference="-" if reference is None else _price(reference, alert.currency, words),
        other=BY_CODE[alert.against].tld if alert.against in BY_CODE else "",
        share=_percent(abs(alert.change_percent or 0), words),
        score=f"{alert.deal_score or 0:.0f}",
    )


def _price(minor: int, currency: str, words: _Words) -> str:
    amount = _amount(minor, currency, words)
    sign = _SIGNS.get(currency)
    if sign is not None:
        return words.price.format(sign=sign, figure=amount)
    return words.price_in_code.format(code=currency, figure=amount)


def _amount(minor: int, currency: str, words: _Words) -> str:
    digits = MINOR_DIGITS[currency]
    return _figure(f"{minor / 10**digits:,.{digits}f}", words)


def _percent(share: float, words: _Words, sign: str = "") -> str:
    return _figure(f"{share:{sign}.1f}", words) + " %"


def _figure(english: str, words: _Words) -> str:
    marks = str.maketrans({",": words.thousands, ".": words.point, "-": "\N{MINUS SIGN}"})
    return english.translate(marks)
