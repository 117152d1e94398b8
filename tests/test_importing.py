"""Lists of products that others wrote: what is read from them, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricecheck import importing
from pricecheck.errors import InputError
from pricecheck.importing import Listed
from pricecheck.watchlist import Watch

ASIN = "B08N5WRWNW"
OTHER = "B000000001"
DEFAULT = Watch("", "DE", 1.0, None, 21_600)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's list is."""
    return tmp_path / "list.csv"


def read(path: Path, content: str | bytes) -> Listed:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return importing.read(path, DEFAULT)


def found(listed: Listed) -> list[tuple[str, str]]:
    return [(item.watch.domain, item.watch.asin) for item in listed.items]


EXCEL = f"asin;domain;target_price\r\n{ASIN};UK;49,99\r\n\r\n;;\r\n{OTHER};;\r\n"


@pytest.mark.parametrize(
    "content",
    [
        EXCEL,
        f"\ufeff{EXCEL}",
        f"sep=;\r\n{EXCEL}",
        EXCEL.replace(";", "\t"),
        EXCEL.replace(";", "\t").encode("utf-16"),
        EXCEL.replace("\r\n", "\r"),
        f"# of a friend\nASIN,Locale,Target Price\n{ASIN},co.uk,\u00a349.99\n{OTHER},,\n",
        f'"ASIN","Domain","target_price"\n"{ASIN}","gb","49,99"\n"{OTHER}"\n',
        f"asin,domain,target_price,currency\n{ASIN},UK,49.99,GBP\n{OTHER},,,\n",
    ],
    ids=[
        "semicolons",
        "BOM",
        "sep=",
        "tabs",
        "UTF-16",
        "old Mac",
        "other names",
        "quotes",
        "currency",
    ],
)
def test_reads_what_spreadsheets_write(path: Path, content: str | bytes) -> None:
    """Delimiter, encoding, line ends, case and common names of columns are free."""
    listed = read(path, content)

    assert found(listed) == [("UK", ASIN), ("DE", OTHER)]
    assert listed.items[0].watch.target_price == 4999
    assert listed.items[0].given == {"domain", "target_price"}
    assert listed.items[1].given == frozenset()
    assert (listed.bad, listed.repeated, listed.ignored) == ([], 0, [])


def test_a_quote_is_no_delimiter(path: Path) -> None:
    """Newer Pythons refuse one; the line that names it is a bad one like any other."""
    listed = read(path, f'sep="\n{ASIN}\n')

    assert found(listed) == [("DE", ASIN)]
    assert [bad.line for bad in listed.bad] == [1]


def test_reads_a_keepa_export(path: Path) -> None:
    """Its locale is the marketplace; texts with quotes, commas and line ends stand in between."""
    content = (
        '"Locale","Image","Title","Sales Rank: Current","Buy Box \U0001f69a: Current","ASIN"\n'
        f'"de","https://x/y.jpg","27"" TV, new\nin two lines","1,234","\u20ac 49,99","{ASIN}"\n'
        f'"com","","# of many","","","{OTHER}"\n'
        '"com","","Book","","",""\n'
    )

    listed = read(path, content)

    assert found(listed) == [("DE", ASIN), ("US", OTHER)]
    assert [(line.line, line.reason) for line in listed.bad] == [(5, listed.bad[0].reason)]
    assert "no ASIN" in listed.bad[0].reason
    assert listed.ignored[:3] == ["image", "title", "sales rank: current"]


def test_reads_plain_lines(path: Path) -> None:
    """ASINs, ISBNs and addresses; words after them, comments and blank lines are passed over."""
    content = (
        f"# mine\n\n{ASIN} a keyboard\n{OTHER}; {ASIN}\n978-0-306-40615-7\n"
        f"https://www.amazon.co.uk/dp/{ASIN} https://keepa.com/#!product/8-{ASIN}\n"
    )

    listed = read(path, content)

    assert found(listed) == [
        ("DE", ASIN),
        ("DE", OTHER),
        ("DE", "0306406152"),
        ("UK", ASIN),
        ("IT", ASIN),
    ]
    assert (listed.bad, listed.repeated) == ([], 1)


def test_an_address_in_a_column_will_do(path: Path) -> None:
    """A list of pages needs no ASINs."""
    listed = read(path, f"title,url\nA keyboard,https://www.amazon.fr/dp/{ASIN}\n")

    assert found(listed) == [("FR", ASIN)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("B08N5WRWN;;;", "not an ASIN"),
        (f"{ASIN};XX;;", "unknown marketplace 'XX'"),
        (f"https://www.amazon.de/dp/{ASIN};UK;;", "is on amazon.de, but the line says 'UK'"),
        ("https://www.amazon.de/gone;;;", "not the address of a product"),
        (f"{ASIN};DE;49.99 USD;", "'49.99 USD': prices on amazon.de are in EUR"),
        (f"{ASIN};DE;$49.99;", "prices on amazon.de are in EUR"),
        (f"{ASIN};UK;49.99;eur", "prices on amazon.co.uk are in GBP"),
        (f"{ASIN};DE;cheap;", "'cheap' is not a price"),
        (f"{ASIN};DE;1.234,56;", "is not a price"),
        (f"{ASIN};DE;49;;;99", "6 cells, more than the header has columns"),
    ],
)
def test_a_bad_line_is_told_with_its_reason(path: Path, line: str, reason: str) -> None:
    """Number and reason; the lines around it are read."""
    listed = read(path, f"asin;domain;target_price;currency\n\n{line}\n{OTHER};;;\n")

    assert found(listed) == [("DE", OTHER)]
    assert [bad.line for bad in listed.bad] == [3]
    assert reason in listed.bad[0].reason


def test_a_quote_left_open_costs_its_own_line(path: Path) -> None:
    """It does not swallow the rest of the file."""
    listed = read(path, f'asin,title\n{ASIN},27" monitor\nB1,"open\n{OTHER},x\n')

    assert found(listed) == [("DE", ASIN), ("DE", OTHER)]
    assert [bad.line for bad in listed.bad] == [3]


def test_a_cell_too_large_for_a_csv_reader_is_read(path: Path) -> None:
    """A description of a megabyte is no reason to refuse the list."""
    listed = read(path, f"asin,title\n{ASIN},{'x' * 1_000_000}\n")

    assert found(listed) == [("DE", ASIN)]


def test_a_hundred_thousand_lines_tell_all_their_bad_ones(path: Path) -> None:
    """Each of 500 by its number, whatever stands around it."""
    lines = [f"B{number:09d}" for number in range(100_000)]
    for number in range(0, 100_000, 200):
        lines[number] = f"bad {number}"

    listed = read(path, "asin\n" + "\n".join(lines))

    assert len(listed.items) == 99_500
    assert [bad.line for bad in listed.bad] == [number + 2 for number in range(0, 100_000, 200)]


@pytest.mark.parametrize("content", [b"PK\x03\x04\x00\x00", b"asin\n\x00\n"])
def test_what_is_no_text_is_refused(path: Path, content: bytes) -> None:
    """A workbook of Excel's own is told apart, with what to do."""
    with pytest.raises(InputError, match="no text file") as caught:
        read(path, content)

    assert "CSV" in caught.value.remedy


def test_a_missing_list_is_refused(path: Path) -> None:
    """By its name."""
    with pytest.raises(InputError, match=r"list\.csv: No such file"):
        importing.read(path, DEFAULT)


@given(st.binary(max_size=200), st.sampled_from([b"", b"asin;domain\n", b"\xff\xfe", b"url\n"]))
def test_no_content_crashes_it(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, begin: bytes
) -> None:
    """Whatever stands there, it is read, told, or refused as no text."""
    path = tmp_path_factory.getbasetemp() / "noise.csv"

    try:
        listed = read(path, begin + content)
    except InputError as error:
        assert "no text" in error.message  # noqa: PT017  # it need not be raised
    else:
        assert all(bad.reason for bad in listed.bad)
