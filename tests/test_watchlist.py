"""The watchlist: what a file may look like, and what its mistakes cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck import watchlist
from pricecheck.errors import ConfigError
from pricecheck.extras import PLAIN, Extras, parse_extras, written_extras
from pricecheck.keepa.tables import BY_CODE
from pricecheck.watchlist import Watch, Watchlist

HEADER = "asin,domain,weight,target_price,every\n"
EXTRAS = "asin,buybox,offers,update\n"
ASIN = "B08N5WRWNW"
OTHER = "B000000001"
ISBN = "080442957X"  # a book's, with X for ten


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's watchlist is."""
    return tmp_path / "watchlist.csv"


def load(path: Path, content: str | bytes, *, strict: bool = False) -> Watchlist:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return watchlist.load(path, domain="DE", strict=strict)


def test_reads_every_column(path: Path) -> None:
    """A full line gives all that is known of a product, its price in cents."""
    found = load(path, HEADER + f"{ASIN},amazon.co.uk,2.5,49.99,1d\n")

    assert found == Watchlist((Watch(ASIN, "UK", 2.5, 4999, 86_400),), (), 0)


def test_asin_alone_is_enough(tmp_path: Path) -> None:
    """All other columns may be absent, their defaults are the caller's."""
    path = tmp_path / "watchlist.csv"
    path.write_text(f"asin\n{ASIN}\n{ISBN}\n")

    found = watchlist.load(path, domain="FR", weight=3.0, every_s=60)

    assert found.watches == (Watch(ASIN, "FR", 3.0, None, 60), Watch(ISBN, "FR", 3.0, None, 60))


@pytest.mark.parametrize("line", [ASIN, f"{ASIN},,,,", f"{ASIN}, , , , ", f"{ASIN},,,,,,"])
def test_blank_cells_take_the_defaults(path: Path, line: str) -> None:
    """Cells left blank or out at the end, or added blank by Excel, mean the default."""
    found = load(path, HEADER + line + "\n")

    assert found == Watchlist((Watch(ASIN, "DE", 1.0, None, 21_600),), (), 0)


@pytest.mark.parametrize(
    "content",
    [
        f"every,asin,target_price\n12h,{ASIN},9.5\n",
        f" Every ,ASIN,target_price\r\n12h, {ASIN.lower()} ,9.5\r\n",
        f"every;asin;target_price;;\n12h;{ASIN};9,5;;\n",
        f'"every","asin","target_price"\n"12h","{ASIN}","9,50"\n',
        f"\ufeffevery,asin,target_price\n12h,{ASIN},9.50",
        f'# mine\n\n;;;\nevery;asin;target_price\n# "open\n"# a; b";;\n;;\n12h;{ASIN};9.5\n',
    ],
    ids=["any order", "spaces and CRLF", "Excel's semicolons", "quotes", "BOM", "comments"],
)
def test_reads_what_spreadsheets_write(path: Path, content: str) -> None:
    """Order of columns, delimiter, quotes, BOM, line ends, comments and blank lines are free."""
    found = load(path, content)

    assert found == Watchlist((Watch(ASIN, "DE", 1.0, 950, 43_200),), (), 0)


@pytest.mark.parametrize(
    ("cell", "domain", "price"),
    [("49", "DE", 4900), ("0.09", "US", 9), ("4999", "JP", 4999), ("007.5", "UK", 750)],
)
def test_prices_are_in_the_smallest_unit_of_the_currency(
    path: Path, cell: str, domain: str, price: int
) -> None:
    """Cents where the currency has them, whole yen where it has not."""
    found = load(path, f"asin,domain,target_price\n{ASIN},{domain},{cell}\n")

    assert [watch.target_price for watch in found.watches] == [price]


@given(st.integers(1, 10**9))
def test_every_cent_is_read_exactly(tmp_path_factory: pytest.TempPathFactory, cents: int) -> None:
    """A price written with two decimals comes back as the same number of cents."""
    path = tmp_path_factory.getbasetemp() / "cents.csv"

    found = load(path, f"asin,target_price\n{ASIN},{cents // 100}.{cents % 100:02d}\n")

    assert [watch.target_price for watch in found.watches] == [cents]


@pytest.mark.parametrize(
    ("cells", "extras"),
    [
        ("", Extras(buybox=True)),
        ("no", Extras()),
        ("FALSE,20,6", Extras(offers=20, update=6)),
        (",100,0", Extras(True, 100, 0)),
        (" Yes ,no,no", Extras(True)),
    ],
)
def test_extras_are_bought_for_products_that_ask_for_them(
    path: Path, cells: str, extras: Extras
) -> None:
    """A blank takes the config's default, and `no` or 0 does without it."""
    path.write_text(f"asin,buybox,offers,update\n{ASIN},{cells}\n")

    found = watchlist.load(path, domain="DE", extras=Extras(buybox=True), strict=True)

    assert [watch.extras for watch in found.watches] == [extras]


def test_products_that_ask_for_the_same_share_one_object(path: Path) -> None:
    """A million lines with extras take no more memory than without, however they are written."""
    found = load(path, f"asin,offers,buybox\n{ASIN},20,no\n{OTHER}, 20\n{ISBN},\n")

    first, second, third = (watch.extras for watch in found.watches)
    assert first is second
    assert third is PLAIN


@given(
    st.builds(
        Extras, st.booleans(), st.just(0) | st.integers(20, 100), st.none() | st.integers(0, 999)
    )
)
def test_extras_are_read_as_they_were_written(extras: Extras) -> None:
    """What `watch export` writes means the same under any defaults."""
    cells = written_extras(extras)

    for default in (PLAIN, Extras(True, 20, 0)):
        assert parse_extras(*cells.values(), default) == extras


def test_domains_are_the_objects_of_the_table(path: Path) -> None:
    """A million lines share one string a marketplace, however it was written."""
    found = load(path, f"asin,domain\n{ASIN},de\n{OTHER},amazon.de\n{ISBN},\n")

    assert all(watch.domain is BY_CODE["DE"].code for watch in found.watches)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("B08N5WRWN", "not an ASIN"),
        ("B08N5WRWN!", "not an ASIN"),
        (",DE", "no ASIN"),
        ("0804429571", "check digit"),
        (f"{ASIN},XX", "unknown marketplace 'XX'"),
        (f"{ASIN},,-1", "weight '-1'"),
        (f"{ASIN},,0", "weight '0'"),
        (f"{ASIN},,nan", "weight 'nan'"),
        (f"{ASIN},,,4 EUR", "target_price '4 EUR'"),
        (f"{ASIN},,,-4", "target_price '-4'"),
        (f"{ASIN},,,0.00", "target_price is 0"),
        (f"{ASIN},,,1.234", "more decimals"),
        (f"{ASIN},JP,,49.99", "more decimals"),
        (f"{ASIN},,,49,99,6h", "6 cells under 5 columns"),
        (f"{ASIN},,,,6", "'6' is not a duration"),
        (f"{ASIN},,,,0s", "out of range"),
        (f'{ASIN},"DE', "quotes"),
    ],
)
def test_a_bad_line_is_reported_and_costs_itself_only(path: Path, line: str, reason: str) -> None:
    """A line that can't be read is named with number, text and reason; the next one is read."""
    found = load(path, f"# my list\n{HEADER}{line}\n\n{OTHER}\n")

    assert [watch.asin for watch in found.watches] == [OTHER]
    assert found.bad_count == 1
    assert (found.bad[0].line, found.bad[0].text) == (3, line)
    assert reason in found.bad[0].reason


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ("ja", "buybox 'ja' is neither yes nor no"),
        (",19", "offers '19': Keepa takes 20 to 100"),
        (",101", "20 to 100"),
        (",-20", "20 to 100"),
        (",,live", "update 'live' is no number of hours"),
        (",,-1", "update '-1'"),
    ],
)
def test_extras_that_keepa_does_not_take_cost_their_line(
    path: Path, cells: str, reason: str
) -> None:
    """The reason says what may be written."""
    found = load(path, f"{EXTRAS}{ASIN},{cells}\n{OTHER}\n")

    assert [watch.asin for watch in found.watches] == [OTHER]
    assert reason in found.bad[0].reason


def test_a_duplicate_names_the_first_line(path: Path) -> None:
    """The same product twice on one marketplace is watched once, as its first line says."""
    found = load(path, f"{HEADER}{ASIN},,2\n{ASIN},UK\n{ASIN.lower()},DE,5\n")

    assert [(watch.domain, watch.weight) for watch in found.watches] == [("DE", 2.0), ("UK", 1.0)]
    assert [(line.line, line.reason) for line in found.bad] == [
        (4, f"DE {ASIN} is already on line 2")
    ]


def test_a_line_refused_does_not_make_the_next_a_duplicate(path: Path) -> None:
    """A product whose first line is bad is watched as its second says."""
    found = load(path, f"{HEADER}{ASIN},,,,soon\n{ASIN},,,,1d\n")

    assert [watch.every_s for watch in found.watches] == [86_400]


def test_bad_lines_beyond_a_thousand_are_only_counted(path: Path) -> None:
    """A file of nothing but bad lines costs no memory for each."""
    found = load(path, "asin\n" + "x\n" * 1500)

    assert len(found.bad) == 1000
    assert found.bad_count == 1500
    assert found.bad[-1].line == 1001


def test_the_text_of_a_bad_line_is_kept_short(path: Path) -> None:
    """A line of a megabyte is not carried along for its report."""
    found = load(path, "asin\n" + "x" * 1_000_000)

    assert len(found.bad[0].text) == 200
    assert found.bad_count == 1


def test_strict_refuses_bad_lines(path: Path) -> None:
    """With strict the file is refused: its name, the first bad lines and how many there are."""
    with pytest.raises(ConfigError) as caught:
        load(path, "asin\n" + "x\n" * 7, strict=True)

    assert str(path) in caught.value.message
    assert "7 bad lines" in caught.value.message
    assert "line 2: 'x' is not an ASIN" in caught.value.message
    assert "line 6: " in caught.value.message
    assert "line 7: " not in caught.value.message
    assert "and 2 more" in caught.value.message


def test_strict_takes_a_file_without_fault(path: Path) -> None:
    """With strict a good file is read as ever."""
    assert len(load(path, f"asin\n{ASIN}\n", strict=True).watches) == 1


@pytest.mark.parametrize("content", ["asin\n", "# nothing yet\nasin,domain", HEADER + "\n#\n"])
def test_no_products_is_no_fault(path: Path, content: str) -> None:
    """A header with nothing under it is a watchlist of no products."""
    assert load(path, content, strict=True) == Watchlist((), (), 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no header"),
        ("\n# just a comment\n", "no header"),
        (f"{ASIN}\n", "line 1 is no header"),
        ("# mine\nproduct,domain\n", "line 2 is no header"),
        ("asin,wieght\n", "unknown column 'wieght'"),
        ("asin,,every\n", "unknown column ''"),
        ("asin,every,Every\n", "every stands twice"),
        ("asin\n# f\u00fcr mich\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("asin\n".encode("utf-16"), "line 1 is not UTF-8"),
    ],
)
def test_a_file_that_is_no_watchlist_is_refused(
    path: Path, content: str | bytes, message: str
) -> None:
    """Without a header that can be trusted nothing is read, and the operator is told why."""
    with pytest.raises(ConfigError, match=message) as caught:
        load(path, content)

    assert str(path) in caught.value.message
    assert caught.value.remedy


def test_a_missing_file_is_refused(path: Path) -> None:
    """No file is an error with a remedy, not an empty watchlist."""
    with pytest.raises(ConfigError, match="No such file") as caught:
        watchlist.load(path, domain="DE")

    assert "prices.watchlist" in caught.value.remedy


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    """What can't be opened as a file is an error with a remedy."""
    with pytest.raises(ConfigError, match="directory") as caught:
        watchlist.load(tmp_path, domain="DE")

    assert caught.value.remedy


@given(st.binary(max_size=200))
def test_no_content_crashes_it(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever stands under the header, it is read, reported, or refused as not UTF-8."""
    path = tmp_path_factory.getbasetemp() / "noise.csv"

    try:
        found = load(path, HEADER.encode() + content)
    except ConfigError as error:
        assert "not UTF-8" in error.message  # noqa: PT017  # it need not be raised
    else:
        assert len(found.watches) + found.bad_count <= content.count(b"\n") + 1
