"""`pricecheck config check`: all that can be wrong is said before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run


async def test_says_what_will_be_spent(run: Run, home: Path) -> None:
    """Four products every six hours are 16 tokens a day; deals and lists are added."""
    (home / "watchlist.csv").write_text("asin\nB000000001\nB000000002\nB000000003\nB000000004\n")
    with (home / "pricecheck.toml").open("a") as file:
        file.write('[[deals]]\ndomain = "DE"\nevery = "1h"\n')
        file.write('[[bestsellers]]\ndomain = "DE"\ncategory = 1\nevery = "1d"\n')

    done = await run("config", "check")

    assert done.returncode == 0
    assert "4 products" in done.stdout
    figures = [line.split() for line in done.stdout.splitlines() if " tokens a day" in line]
    assert [(line[1], line[-1]) for line in figures] == [
        ("16", "prices"),
        ("120", "deals:DE"),
        ("50", "bestsellers:DE:1"),
    ]
    assert "186 in all" in done.stdout


async def test_extras_are_priced_where_they_are_asked_for(run: Run, home: Path) -> None:
    """A product with offers costs 13 tokens a check by Keepa's price list, the others one."""
    (home / "watchlist.csv").write_text("asin,offers\nB000000001,20\nB000000002,\nB000000003\n")

    done = await run("config", "check")

    assert "52 tokens a day for prices with offers=20, 13 tokens a check" in done.stdout
    assert " 8 tokens a day for prices\n" in done.stdout
    assert "60 in all" in done.stdout


async def test_a_product_dearer_than_a_call_may_be_is_refused(run: Run, home: Path) -> None:
    """Before the daemon starts, with what to do."""
    (home / "watchlist.csv").write_text("asin,offers\nB000000001,100\n")
    with (home / "pricecheck.toml").open("a") as file:
        file.write("max_call_cost = 50\n")

    done = await run("config", "check")

    assert done.returncode == 78
    assert "a check with offers=100 costs about 61 tokens" in done.stderr
    assert "raise the cap" in done.stderr


async def test_lists_the_bad_lines_and_refuses_them_when_strict(run: Run, home: Path) -> None:
    """Each with its number and reason; `--strict` makes them an error."""
    (home / "watchlist.csv").write_text("asin\nB000000001\nnonsense\n")

    lenient = await run("config", "check")
    strict = await run("config", "check", "--strict")

    assert lenient.returncode == 0
    assert "line 3: 'nonsense' is not an ASIN" in lenient.stdout
    assert strict.returncode == 78
    assert "line 3" in strict.stderr


async def test_quiet_says_only_what_is_wrong(run: Run, home: Path) -> None:
    """A reload under systemd checks first, and a log needs no word on what is right."""
    right = await run("config", "check", "--quiet")
    (home / "pricecheck.toml").write_text("[prices]\nevry = '6h'\n")
    wrong = await run("config", "check", "--quiet")

    assert (right.returncode, right.stdout, right.stderr) == (0, "", "")
    assert wrong.returncode == 78
    assert "evry" in wrong.stderr


async def test_a_wrong_key_is_named_with_its_file_and_a_remedy(run: Run, home: Path) -> None:
    """Exit code 78, the file, the key, and what was probably meant."""
    (home / "pricecheck.toml").write_text("[prices]\nevry = '6h'\n")

    done = await run("config", "check")

    assert done.returncode == 78
    assert done.stderr == (
        "Error: pricecheck.toml: unknown key prices.evry\n  did you mean every?\n"
    )


async def test_without_an_api_key_it_says_how_to_give_one(run: Run, home: Path) -> None:
    """The real Keepa needs a key; the message names the ways."""
    (home / "pricecheck.toml").write_text("")

    done = await run("config", "check")

    assert done.returncode == 78
    assert "no Keepa API key" in done.stderr
    assert "KEEPA_API_KEY" in done.stderr


async def test_without_looking_for_a_key_the_rest_is_checked(run: Run, home: Path) -> None:
    """A reload's check can't read the credential that the daemon already has."""
    (home / "pricecheck.toml").write_text('state_directory = "state"\n')

    done = await run("config", "check", "--no-key")

    assert done.returncode == 0
    assert "key        not looked for" in done.stdout


async def test_a_path_too_long_for_a_socket_is_refused_as_at_the_start(
    run: Run, home: Path
) -> None:
    """Before anybody installs it."""
    (home / "pricecheck.toml").write_text(f'state_directory = "{"long/" * 20}"\n')

    done = await run("config", "check", "--no-key")

    assert done.returncode == 78
    assert "too long a path for a socket" in done.stderr


async def test_errors_carry_a_priority_when_the_journal_reads(run: Run, home: Path) -> None:
    """`journalctl -p err` shows why a service did not start."""
    (home / "pricecheck.toml").write_text("x = 1\n")

    done = await run("run", env={"JOURNAL_STREAM": "8:1"})

    assert done.returncode == 78
    assert all(line.startswith("<3>") for line in done.stderr.splitlines())
    assert not (home / "state").exists()


async def test_a_sink_is_checked_without_asking_it(run: Run, home: Path) -> None:
    """Its options and secrets must hold; whether it answers is no question of the config."""
    config = (home / "pricecheck.toml").read_text()
    (home / "pricecheck.toml").write_text(config + "[kafka]\n[elasticsearch]\n")
    good = await run("config", "check")
    (home / "pricecheck.toml").write_text(config + '[kafka.options]\n"no.such" = 1\n')
    bad = await run("config", "check")

    assert good.returncode == 0
    assert "delivers   to elasticsearch\ndelivers   to kafka" in good.stdout
    assert bad.returncode == 78
    assert "no.such" in bad.stderr


async def test_a_sink_that_does_not_hold_starts_nothing(run: Run, home: Path) -> None:
    """`run` refuses it before the state directory is made."""
    with (home / "pricecheck.toml").open("a") as file:
        file.write('[elasticsearch]\napi_key_file = "missing"\n')

    done = await run("run")

    assert done.returncode == 78
    assert "missing" in done.stderr
    assert not (home / "state").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('what = "low"\nasins = ["B000000001", "B000000002"]\n', "odd: B000000002 is not watched"),
        ('what = "low"\nasins = ["B000000001"]\ndomains = ["FR"]\n', "odd: B000000001 is not"),
        ('what = "spread"\nthreshold = "9%"\n', "odd: no rate of GBP"),
        ('what = "spread"\nthreshold = "9%"\n[exchange]\nrates = { GBP = 0.8 }\n', None),
        ('what = "spread"\nthreshold = "9%"\n[exchange]\nurl = "https://example.com"\n', None),
        ('what = "spread"\nthreshold = "9%"\ndomains = ["DE", "FR"]\n', "odd: watched in one"),
        ('what = "low"\n', None),
    ],
)
async def test_a_rule_that_can_not_ring_is_told(
    run: Run, home: Path, more: str, said: str | None
) -> None:
    """It is right in itself, but for this watchlist it is not; nobody would notice its silence."""
    (home / "watchlist.csv").write_text("asin,domain\nB000000001,DE\nB000000001,UK\n")
    with (home / "pricecheck.toml").open("a") as file:
        file.write(f'[[alerts]]\nname = "odd"\n{more}')

    done = await run("config", "check")

    assert done.returncode == 0
    assert ("alerts" in done.stdout) == (said is not None)
    assert (said or "") in done.stdout
