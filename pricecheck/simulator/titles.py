"""Believable names for products that do not exist."""

from __future__ import annotations

from pricecheck.simulator.world import Listing

_BRANDS = ("Tastwerk", "Klaviora", "Nordkey", "Typhara", "Quietborn", "Lumikey", "Klickfeld")
_GERMAN = 3
_KINDS = {
    True: (
        "Mechanische Tastatur",
        "Kabellose Tastatur",
        "Ergonomische Tastatur",
        "Gaming-Tastatur",
        "Kompakte Funktastatur",
        "Tastatur & Maus, Set",
    ),
    False: (
        "Mechanical Keyboard",
        "Wireless Keyboard",
        "Ergonomic Keyboard",
        "Gaming Keyboard",
        "Compact Bluetooth Keyboard",
        "Keyboard & Mouse Combo",
    ),
}
_LAYOUTS = {
    True: ("QWERTZ, deutsches Layout", 'mit Handballenauflage, 18"', "leise Tasten, schwarz"),
    False: ("full size", 'with wrist rest, 18"', "quiet keys, black"),
}


def brand(listing: Listing) -> str:
    """Return the invented maker of a product."""
    return _BRANDS[listing.key % len(_BRANDS)]


def title(listing: Listing) -> str:
    """Return a product's title, in German on amazon.de; it may hold & and quotes."""
    german, number = listing.domain == _GERMAN, listing.key >> 8
    kinds, layouts = _KINDS[german], _LAYOUTS[german]
    model = f"{'KMXT'[number % 4]}{number // 4 % 900 + 100}"
    kind = kinds[number // 7 % len(kinds)]
    return f"{brand(listing)} {model} {kind}, {layouts[number // 11 % len(layouts)]}"


def category(domain: int) -> str:
    """Return the name of a marketplace's root category."""
    return "Tastaturen" if domain == _GERMAN else "Keyboards"


def image(listing: Listing) -> str:
    """Return the file name of a product's picture."""
    return f"{listing.key:016x}"[:10] + "L.jpg"
