"""What people are told, word for word."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints
from zoneinfo import ZoneInfo

import msgspec
import pytest

from pricecheck.config import AlertRule
from pricecheck.deliver.wording import Language, Voice, message, price
from pricecheck.deliver.wording import test_message as message_of_a_test
from pricecheck.records import Alert

ALERT = Alert(
    asin="B0148NPH9I",
    domain="DE",
    currency="EUR",
    title="Klickfeld T128 Keyboard",
    rule="target",
    what="target",
    price_type="NEW",
    changed_at="2026-11-24T23:31:00Z",
    observed_at="2026-11-25T00:10:00Z",
    old_price=123_499,
    new_price=4_999,
    target_price=5_000,
    reference_price=5_000,
    change_percent=-0.02,
    url="https://www.amazon.de/dp/B0148NPH9I",
)
WHAT = get_args(get_type_hints(AlertRule)["what"])
BERLIN = ZoneInfo("Europe/Berlin")


def alert(**fields: Any) -> Alert:
    return msgspec.structs.replace(ALERT, **fields)


def first_line(one: Alert, language: Language) -> str:
    return message([one], Voice(language, BERLIN)).body.splitlines()[0]


def test_a_message_in_english() -> None:
    """What, why, before, where, since when, which rule, and the link."""
    told = message([ALERT], Voice("en", BERLIN))

    assert told.title == "€49.99: Klickfeld T128 Keyboard"
    assert told.body.splitlines() == [
        "At or below the target of €50.00 (was €1,234.99, \N{MINUS SIGN}96.0 %)",
        "New on amazon.de since 2026-11-25 00:31 (rule: target)",
        "https://www.amazon.de/dp/B0148NPH9I",
    ]


def test_a_message_in_german() -> None:
    """With the language's figures and dates."""
    told = message([ALERT], Voice("de", BERLIN))

    assert told.title == "49,99 €: Klickfeld T128 Keyboard"
    assert told.body.splitlines() == [
        "Zielpreis von 50,00 € erreicht (vorher 1.234,99 €, \N{MINUS SIGN}96,0 %)",
        "Neu bei amazon.de seit 25.11.2026, 00:31 Uhr (Regel: target)",
        "https://www.amazon.de/dp/B0148NPH9I",
    ]


DROP: dict[str, Any] = {"what": "drop", "reference_price": 6_000, "change_percent": -16.68}
RISE: dict[str, Any] = {"what": "rise", "reference_price": 4_000, "change_percent": 24.98}
STOCK: dict[str, Any] = {"what": "stock", "old_price": None, "reference_price": None}


@pytest.mark.parametrize(
    ("fields", "english", "german"),
    [
        (
            DROP | {"against": "last", "old_price": 6_000},
            "Dropped by 16.7 % from €60.00",
            "Um 16,7 % gefallen, von 60,00 €",
        ),
        (
            DROP | {"against": "avg90", "old_price": 6_100},
            "16.7 % below the 90-day average of €60.00 (was €61.00, \N{MINUS SIGN}18.0 %)",
            "16,7 % unter dem 90-Tage-Schnitt von 60,00 € (vorher 61,00 €, \N{MINUS SIGN}18,0 %)",
        ),
        (
            RISE | {"against": "avg30", "old_price": None},
            "25.0 % above the 30-day average of €40.00",
            "25,0 % über dem 30-Tage-Schnitt von 40,00 €",
        ),
        (
            RISE | {"against": "last", "old_price": 4_000},
            "Rose by 25.0 % from €40.00",
            "Um 25,0 % gestiegen, von 40,00 €",
        ),
        (
            {"what": "low", "reference_price": 5_100, "old_price": 5_200},
            "Lowest price of all time (was €52.00, \N{MINUS SIGN}3.9 %)",
            "Niedrigster Preis aller Zeiten (vorher 52,00 €, \N{MINUS SIGN}3,9 %)",
        ),
        (
            {"what": "high", "reference_price": None, "old_price": None},
            "Highest price of all time",
            "Höchster Preis aller Zeiten",
        ),
        (
            {"what": "spread", "against": "UK", "reference_price": 6_000, "old_price": None},
            "0.0 % below amazon.co.uk, where it is €60.00",
            "0,0 % unter amazon.co.uk, dort 60,00 €",
        ),
        (
            RISE | {"what": "spread", "against": "FR", "old_price": None},
            "25.0 % above amazon.fr, where it is €40.00",
            "25,0 % über amazon.fr, dort 40,00 €",
        ),
        (STOCK, "Back in stock", "Wieder lieferbar"),
        (
            STOCK | {"price_type": "AMAZON"},
            "Sold by Amazon itself again",
            "Wieder von Amazon selbst verkauft",
        ),
        (
            {
                "what": "score",
                "deal_score": 71.6,
                "old_price": None,
                "reference_price": 8_000,
                "change_percent": -37.5,
            },
            "A deal of score 72, 37.5 % below the usual €80.00",
            "Angebot mit 72 Punkten, 37,5 % unter den üblichen 80,00 €",
        ),
    ],
)
def test_each_kind_says_what_happened(fields: dict[str, Any], english: str, german: str) -> None:
    """In both languages."""
    assert first_line(alert(**fields), "en") == english
    assert first_line(alert(**fields), "de") == german


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("against", ["last", "avg30", "avg90"])
@pytest.mark.parametrize("what", WHAT)
def test_every_kind_of_rule_has_words(what: str, against: str, language: Language) -> None:
    """None that a config may hold leaves a message unwritten, whatever is not known."""
    nothing = {"title": None, "old_price": None, "new_price": None, "reference_price": None}

    assert first_line(alert(what=what, against=against, **nothing), language)


def test_several_are_told_together() -> None:
    """The title counts them, and each has its own lines."""
    other = alert(title=None, domain="UK", currency="GBP", url="https://www.amazon.co.uk/dp/B2")

    told = message([ALERT, other], Voice("en", BERLIN))

    assert told.title == "2 price alerts"
    first, second = told.body.split("\n\n")
    assert first.startswith("€49.99: Klickfeld T128 Keyboard\nAt or below")
    assert second.startswith("£49.99: B0148NPH9I\n")
    assert second.endswith("https://www.amazon.co.uk/dp/B2")


def test_what_rang_for_one_change_is_told_once() -> None:
    """A drop that is a low and a target, too, is one thing to read."""
    low = alert(rule="lowest", what="low", reference_price=5_100)

    told = message([ALERT, low], Voice("en", BERLIN))

    assert told.title == "€49.99: Klickfeld T128 Keyboard"
    assert told.body.splitlines() == [
        "At or below the target of €50.00, lowest price of all time "
        "(was €1,234.99, \N{MINUS SIGN}96.0 %)",
        "New on amazon.de since 2026-11-25 00:31 (rule: target, lowest)",
        "https://www.amazon.de/dp/B0148NPH9I",
    ]


def test_a_long_title_is_cut() -> None:
    """Amazon's run to 200 characters and more."""
    told = message([alert(title="A keyboard " * 30)], Voice())

    assert len(told.title) < 100
    assert told.title.endswith("…")


@pytest.mark.parametrize(
    "title",
    [
        "Keyboard\nhttps://phish.example\r\n",
        "\x1b[31mKeyboard\0 https://phish.example",
        "\u202eKeyboard\u2069 https://phish.example\u2028",
    ],
)
def test_a_title_is_one_line(title: str) -> None:
    """Nothing in it passes for a line of ours, commands a terminal or turns the text around."""
    told = message([alert(title=title)], Voice())

    assert told.title.startswith("€49.99: ")
    assert told.title.isprintable()
    assert "Keyboard https://phish.example" in told.title


def test_what_is_simulated_says_so() -> None:
    """Nobody is to run to the shop for a price that was made up."""
    voice = Voice(simulated=True)

    assert message([ALERT], voice).title.startswith("SIMULATED: ")
    assert message_of_a_test(voice).title.startswith("SIMULATED: ")


@pytest.mark.parametrize(
    ("minor", "currency", "english", "german"),
    [
        (123_456_789, "EUR", "€1,234,567.89", "1.234.567,89 €"),
        (4_999, "USD", "$49.99", "49,99 $"),
        (12_345, "JPY", "¥12,345", "12.345 ¥"),
        (4_999, "CAD", "CAD 49.99", "49,99 CAD"),
        (0, "GBP", "£0.00", "0,00 £"),
    ],
)
def test_a_price_is_written_as_the_language_does(
    minor: int, currency: str, english: str, german: str
) -> None:
    """With the marketplace's currency."""
    assert price(minor, currency, "en") == english
    assert price(minor, currency, "de") == german
