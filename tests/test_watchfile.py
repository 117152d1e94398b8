"""Edits of a watchlist: what changes, and what never does."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck import watchlist
from pricecheck.errors import ConfigError, InputError
from pricecheck.extras import Extras
from pricecheck.watchfile import WatchFile, cells_of, edited, editing, parse, removed, replace
from pricecheck.watchlist import COLUMNS, Watch

PATH = Path("watchlist.csv")
HEADER = ",".join(COLUMNS)
LIVE = Extras(buybox=True, offers=20, update=0)
ASIN = "B08N5WRWNW"
OTHER = "B000000001"


def watch(asin: str = ASIN, domain: str = "DE", **fields: object) -> Watch:
    shape = {"weight": 1.0, "target_price": None, "every_s": 21_600} | fields
    return Watch(asin, domain, **shape)  # type: ignore[arg-type]


def file(content: str | bytes) -> WatchFile:
    return parse(PATH, content if isinstance(content, bytes) else content.encode(), domain="DE")


def plus(content: str | bytes, new: Watch, *given: str) -> bytes:
    before = file(content)
    return edited(before, [cells_of(before, new, given)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A watchlist with a comment and a product."""
    path = tmp_path / "watchlist.csv"
    path.write_text(f"# mine\n{HEADER}\n{ASIN},DE\n")
    return path


@pytest.mark.parametrize(
    ("before", "line"),
    [
        (f"# mine\n{HEADER}\n", b"B000000001,UK,2.5,49.99,1d,yes,20,0\n"),
        (f"{HEADER}\r\n", b"B000000001,UK,2.5,49.99,1d,yes,20,0\r\n"),
        (f"\ufeff{';'.join(COLUMNS)};;\r\n;;\r\n", b"B000000001;UK;2,5;49,99;1d;yes;20;0\r\n"),
        ('"every","asin","target_price",domain,weight\n', b"1d,B000000001,49.99,UK,2.5\n"),
        ("target_price;asin;domain;every;weight\n", b"49,99;B000000001;UK;1d;2,5\n"),
    ],
    ids=["plain", "CRLF", "Excel", "quoted header in another order", "semicolons"],
)
def test_a_line_is_added_as_the_file_writes_its_own(before: str, line: bytes) -> None:
    """Order of columns, delimiter, decimal mark and line end are those of the file."""
    new = watch(OTHER, "UK", weight=2.5, target_price=4999, every_s=86_400, extras=LIVE)

    after = plus(before, new, *file(before).layout.columns)

    assert after == before.encode() + line


def test_a_last_line_without_an_end_gets_one() -> None:
    """Or the new line would be glued to it."""
    assert plus(f"asin\n{ASIN}", watch(OTHER)) == f"asin\n{ASIN}\n{OTHER}\n".encode()


def test_adding_nothing_changes_nothing() -> None:
    """Not even the last line's end."""
    assert edited(file(f"asin\n{ASIN}"), []) == f"asin\n{ASIN}".encode()


def test_blanks_are_left_to_the_config() -> None:
    """What was not asked for follows the config's defaults when these change."""
    assert plus(f"{HEADER}\n", watch(OTHER)).endswith(b"\nB000000001\n")
    assert plus(f"{HEADER}\n", watch(OTHER, "UK")).endswith(b"\nB000000001,UK\n")


@pytest.mark.parametrize(
    ("new", "given", "column"),
    [
        (watch(OTHER, "UK"), (), "domain"),
        (watch(OTHER, target_price=1), ("target_price",), "target_price"),
        (watch(OTHER, extras=LIVE), ("offers",), "offers"),
    ],
)
def test_what_the_file_has_no_column_for_is_refused(
    new: Watch, given: tuple[str, ...], column: str
) -> None:
    """The header is the operator's; the error says what to write there."""
    with pytest.raises(InputError, match=f"no column {column}") as caught:
        plus("asin\n", new, *given)

    assert f",{column}" in caught.value.remedy


def test_the_default_marketplace_needs_no_column() -> None:
    """A file of ASINs alone takes the address of a page on the default marketplace."""
    assert plus("asin\n", watch(OTHER), "domain") == b"asin\nB000000001\n"


@pytest.mark.parametrize(
    ("line", "after"),
    [
        (f"{ASIN}\r\n", f"{ASIN},,,9.99\r\n"),
        (f'"{ASIN.lower()}",UK,2,5,6h', f"{ASIN.lower()},UK,2,9.99,6h"),
        (f"{ASIN},,,5,,\n", f"{ASIN},,,9.99\n"),
    ],
)
def test_a_line_is_changed_where_it_stands(line: str, after: str) -> None:
    """The other cells stay, and so does the line's end."""
    before = file(f"{HEADER}\n{line}".encode())

    changed = edited(before, [], {2: {"target_price": "9.99"}})

    assert changed == f"{HEADER}\n{after}".encode()


def test_removing_takes_every_line_of_the_product() -> None:
    """Or a line skipped as a duplicate, or for a bad cell, would come into force."""
    content = f"{HEADER}\n# {ASIN}\n{ASIN}\n{ASIN},UK\n{ASIN},DE,x\n{OTHER}\n{ASIN},amazon.de"

    after = removed(file(content), {("DE", ASIN)})

    assert after == f"{HEADER}\n# {ASIN}\n{ASIN},UK\n{OTHER}\n".encode()


def test_a_file_without_header_is_refused(path: Path) -> None:
    """Nothing is edited that can't be read."""
    path.write_text("ASINs of mine\n")

    with pytest.raises(ConfigError, match="no header"), editing(path, domain="DE"):
        pytest.fail("it was read")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """With the words of its reader."""
    with (
        pytest.raises(ConfigError, match="No such file"),
        editing(tmp_path / "none.csv", domain="DE"),
    ):
        pytest.fail("it was read")


def test_replacing_keeps_mode_and_owner(path: Path) -> None:
    """A file that only some may read stays so."""
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12_345, 12_346)
    before = path.stat()

    with editing(path, domain="DE") as read:
        replace(read, b"asin\n")

    after = path.stat()
    assert path.read_bytes() == b"asin\n"
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert [each.name for each in path.parent.iterdir()] == ["watchlist.csv"]


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    """The file that it leads to is replaced."""
    link = tmp_path / "link.csv"
    link.symlink_to(path)

    with editing(link, domain="DE") as read:
        replace(read, b"asin\n")

    assert link.is_symlink()
    assert path.read_bytes() == b"asin\n"


def test_what_an_editor_saved_meanwhile_is_not_lost(path: Path) -> None:
    """The edit is refused; nothing is left lying about."""
    with editing(path, domain="DE") as read:
        path.write_text("asin\n# saved meanwhile\n")
        with pytest.raises(InputError, match="somebody else"):
            replace(read, b"asin\n")

    assert path.read_text() == "asin\n# saved meanwhile\n"
    assert [each.name for each in path.parent.iterdir()] == ["watchlist.csv"]


def test_a_full_disk_changes_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file stays whole, and the half-written one goes."""

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)

    with (
        editing(path, domain="DE") as read,
        pytest.raises(InputError, match="No space left"),
    ):
        replace(read, b"asin\n")

    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["watchlist.csv"]


PRODUCTS = st.tuples(st.sampled_from(["DE", "UK", "JP"]), st.sampled_from([ASIN, OTHER]))
LINES = st.lists(
    st.sampled_from(
        [
            "# a comment; with, all",
            "",
            ";;",
            '"# quoted"',
            f"  {ASIN.lower()} ",
            OTHER,
            f"{OTHER},UK,2",
            f"{ASIN},,bad weight",
            "B00000000!",
            f'"{ASIN}","JP"',
            "\u00e4\u2028\x0b\x85",
        ]
    ),
    max_size=8,
)


@given(
    lines=LINES,
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    edits=st.lists(st.tuples(st.booleans(), PRODUCTS), max_size=8),
)
def test_no_edit_touches_a_byte_of_another_line(
    lines: list[str], end: str, last: bool, edits: list[tuple[bool, tuple[str, str]]]
) -> None:
    """Whatever is added and removed in turn, the lines of other products stay as they were.

    And the file says just what the edits amount to.
    """
    content = (end.join([HEADER, *lines]) + (end if last else "")).encode()
    touched = {product for _, product in edits}
    watched = set(file(content).first)

    after = content
    for add, product in edits:
        before = file(after)
        if not add:
            after = removed(before, {product})
            watched.discard(product)
        elif product not in before.first:
            after = edited(before, [cells_of(before, watch(product[1], product[0]), ("domain",))])
            watched.add(product)

    assert set(file(after).first) == watched
    others = without(content, touched)
    assert without(after, touched) in (others, others + b"\n", others + end.encode())


def without(content: bytes, products: set[tuple[str, str]]) -> bytes:
    """Return the lines of a file that name none of these products, read by watchlist.py alone."""
    raw = io.BytesIO(content).readlines()
    _, named = watchlist.products(PATH, raw, domain="DE")
    return b"".join(line for number, line in enumerate(raw, 1) if named.get(number) not in products)


@given(
    domain=st.sampled_from(["DE", "JP"]),
    weight=st.floats(1e-9, 1e9, exclude_max=True),
    target=st.none() | st.integers(1, 10**9 - 1),
    every_s=st.integers(1, 10**8),
    delimiter=st.sampled_from([",", ";"]),
)
def test_what_is_added_is_read_as_it_was_meant(
    tmp_path_factory: pytest.TempPathFactory,
    domain: str,
    weight: float,
    target: int | None,
    every_s: int,
    delimiter: str,
) -> None:
    """Weight to nine decimals, price to the cent, interval to the second."""
    path = tmp_path_factory.getbasetemp() / "added.csv"
    weight = round(weight, 9)
    new = watch(OTHER, domain, weight=weight, target_price=target, every_s=every_s)

    path.write_bytes(plus(HEADER.replace(",", delimiter) + "\n", new, *COLUMNS))

    [found] = watchlist.load(path, domain="FR", strict=True).watches
    assert found == new
