"""`pricecheck init` and the examples that it writes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

import pricecheck
from pricecheck import config, watchlist
from pricecheck.cli.init import command
from pricecheck.durations import parse_duration
from tests.cli.conftest import Run

EXAMPLE = Path(pricecheck.__file__).parent / "examples" / "pricecheck.toml"


async def test_writes_both_files_and_says_what_comes_next(run: Run, home: Path) -> None:
    """A new user gets a config and a watchlist, and the commands to go on with."""
    done = await run("init", "new")

    assert done.returncode == 0
    assert watchlist.load(home / "new/watchlist.csv", domain="DE").watches == ()
    assert config.load(home / "new/pricecheck.toml").config == config.Config()
    assert "pricecheck config check new/pricecheck.toml" in done.stdout
    assert not (home / "new/keepa-api-key").exists()


async def test_the_commands_can_be_copied(run: Run) -> None:
    """Whatever the directory is called."""
    done = await run("init", "my prices")

    assert "pricecheck config check 'my prices/pricecheck.toml'" in done.stdout


def test_where_a_service_reads_them_it_lays_a_file_for_the_key(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty, and its owner's alone; what comes next is the service's start."""
    monkeypatch.setattr("pricecheck.config.settings.SERVICES", home)

    done = CliRunner().invoke(command, [str(home / "second")])

    key = home / "second/keepa-api-key"
    assert key.read_text() == ""
    assert key.stat().st_mode & 0o777 == 0o600
    assert f"put the API key into {key}" in done.stdout
    assert "systemctl enable --now pricecheck@second" in done.stdout
    assert "KEEPA_API_KEY" not in done.stdout


async def test_never_overwrites(run: Run, home: Path) -> None:
    """What somebody has written stays."""
    (home / "watchlist.csv").write_text("asin\nB000000001\n")

    done = await run("init", ".")

    assert done.returncode == 0
    assert (home / "watchlist.csv").read_text() == "asin\nB000000001\n"
    assert "watchlist.csv exists and stays as it is" in done.stdout


async def test_a_directory_that_can_not_be_is_explained(run: Run, home: Path) -> None:
    """A file stands where the directory should be."""
    (home / "taken").write_text("")

    done = await run("init", "taken/new")

    assert done.returncode != 0
    assert "taken/new" in done.stderr
    assert "Traceback" not in done.stderr


TABLES: dict[str, msgspec.Struct] = {
    "keepa": config.Keepa(),
    "prices": config.Prices(),
    "outbox": config.Outbox(),
    "costs": config.Costs(),
    "names": config.Names(),
    "elasticsearch": config.Elasticsearch(),
    "kafka": config.Kafka(),
    "notify": config.Notify(),
}


def uncommented() -> str:
    """Return the example with every commented-out key and table in force."""
    return re.sub(r"^# ?(?=([\w\".]+ = |\[))", "", EXAMPLE.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("name", TABLES)
def test_the_example_shows_every_key_and_its_real_default(name: str) -> None:
    """Whoever takes the comment sign away gets what the program does anyway."""
    shown, table = tomllib.loads(uncommented())[name], TABLES[name]

    for key, value in shown.items():
        default = getattr(table, key)
        if default is None or key == "options":
            continue  # what is shown is an example, for there is no default
        if isinstance(default, config.Duration):
            assert parse_duration(value) == default, key
        else:
            assert (tuple(value) if isinstance(value, list) else value) == default, key
    assert set(table.__struct_fields__) - set(shown) <= {"url"}


def test_the_example_shows_the_defaults_outside_of_tables() -> None:
    """Log level and patience."""
    shown = tomllib.loads(uncommented())

    assert parse_duration(shown["stall_after"]) == config.Config().stall_after
    assert shown["log_level"] == config.Config().log_level


def test_the_example_with_every_key_in_force_can_be_read(tmp_path: Path) -> None:
    """No key in it is misspelt, and the rules of each kind show every key."""
    path = tmp_path / "pricecheck.toml"
    path.write_text(uncommented())

    loaded = config.load(path).config

    assert [rule.name for rule in loaded.deals] == ["deals:DE:340843031"]
    assert [rule.name for rule in loaded.bestsellers] == ["bestsellers:DE:340843031"]
    shown = tomllib.loads(uncommented())
    assert set(config.DealRule.__struct_fields__) == set(shown["deals"][0])
    assert set(config.BestsellersRule.__struct_fields__) == set(shown["bestsellers"][0])
    assert set(config.AlertRule.__struct_fields__) == set(shown["alerts"][0])
