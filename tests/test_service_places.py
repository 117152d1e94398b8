"""Where state and socket are: a command finds those of the service whose config it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from pricecheck.config import Config, Settings
from pricecheck.errors import ConfigError


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The program is not started by systemd, and its user's state is in a folder of the test."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("path", "unit", "state"),
    [
        ("/etc/pricecheck/pricecheck.toml", "pricecheck.service", "/var/lib/pricecheck"),
        (
            "/etc/pricecheck/second/pricecheck.toml",
            "pricecheck@second.service",
            "/var/lib/pricecheck-second",
        ),
    ],
)
def test_the_config_of_a_service_means_the_state_of_that_service(
    path: str, unit: str, state: str
) -> None:
    """An operator's command needs no option to find what the service keeps."""
    settings = Settings(Config(), Path(path))

    assert settings.unit == unit
    assert settings.state_directory() == Path(state)
    assert settings.socket_directory() == Path(state)  # where no service has a place in /run


@pytest.mark.parametrize(
    "path",
    [
        None,
        "/etc/pricecheck/other.toml",
        "/etc/pricecheck/a/b/pricecheck.toml",
        "/etc/pricecheck.toml",
        "pricecheck.toml",
    ],
)
def test_any_other_config_means_the_users_own_state(path: str | None, tmp_path: Path) -> None:
    """A trial config, wherever it is, never touches a service's state."""
    settings = Settings(Config(), Path(path) if path else None)

    assert settings.unit is None
    assert settings.state_directory() == tmp_path / "pricecheck"
    assert settings.socket_directory() == tmp_path / "pricecheck"


def test_what_the_config_says_comes_before_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """`state_directory` moves the state; the socket stays where a group may reach it."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/pricecheck")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/pricecheck")
    settings = Settings(Config(state_directory="/srv/prices"), Path("/etc/pricecheck/a.toml"))

    assert settings.state_directory() == Path("/srv/prices")
    assert settings.socket_directory() == Path("/run/pricecheck")


def test_a_service_without_a_key_is_told_the_file_that_its_unit_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The unit reads the key from beside the config; nothing has to be configured for that."""
    monkeypatch.delenv("KEEPA_API_KEY", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)

    with pytest.raises(ConfigError) as caught:
        Settings(Config(), Path("/etc/pricecheck/second/pricecheck.toml")).api_key()

    assert "/etc/pricecheck/second/keepa-api-key" in caught.value.remedy


def test_under_systemd_its_directories_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of several, as a drop-in may add some."""
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/one:/run/two")
    settings = Settings(Config(), None)

    assert settings.state_directory() == Path("/var/lib/one")
    assert settings.socket_directory() == Path("/run/one")


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """The config of an installed service, whose key is still to come."""
    folder = tmp_path / "pricecheck"
    folder.mkdir()
    (folder / "keepa-api-key").touch(mode=0o600)
    monkeypatch.setattr("pricecheck.config.settings.SERVICES", folder)
    for name in ("KEEPA_API_KEY", "ELASTICSEARCH_PASSWORD", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    return Settings(Config(), folder / "pricecheck.toml")


def test_a_command_reads_the_secrets_that_the_unit_hands_to_the_service(service: Settings) -> None:
    """`sudo pricecheck doctor` has no credential, but may read the files."""
    (service.folder / "keepa-api-key").write_text("the-key\n")
    (service.folder / "elasticsearch-password").write_text("the-password\n")

    assert service.api_key() == "the-key"
    assert service.secret("elasticsearch-password", None) == "the-password"
    assert service.secret("elasticsearch-api-key", None) is None


@pytest.mark.parametrize("started_by_systemd", [True, False])
def test_a_key_file_that_is_still_empty_is_told_as_the_place_for_the_key(
    service: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, started_by_systemd: bool
) -> None:
    """Installed empty, handed over empty: what is missing is the key, not a right to read."""
    if started_by_systemd:
        (tmp_path / "keepa-api-key").write_text("\n")
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    with pytest.raises(ConfigError, match="no Keepa API key") as caught:
        service.api_key()

    assert f"put it into {service.folder / 'keepa-api-key'}" in caught.value.remedy


def test_the_service_has_its_credentials_and_looks_for_no_file_of_roots(
    service: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file that was filled after the start, and that it may not read, is none of its business."""
    (tmp_path / "keepa-api-key").write_text("\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (service.folder / "keepa-api-key").write_text("the-key\n")

    with pytest.raises(ConfigError, match="no Keepa API key"):
        service.api_key()
