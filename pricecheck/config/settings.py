"""A config with where it came from: the places it means, and the secrets that go with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from pricecheck import systemd
from pricecheck.config.sections import Config
from pricecheck.errors import ConfigError
from pricecheck.logs import redact

FILE_NAME: Final = "pricecheck.toml"
SERVICES: Final = Path("/etc/pricecheck")
KEY_VARIABLE: Final = "KEEPA_API_KEY"
KEY_CREDENTIAL: Final = "keepa-api-key"
SIMULATED_KEY: Final = "any-key-will-do"


class Settings(msgspec.Struct, frozen=True):
    """A config with where it came from: relative paths in it are meant from there."""

    config: Config
    path: Path | None  # None: embedded defaults

    @property
    def folder(self) -> Path:
        """The directory that relative paths start from."""
        return self.path.parent if self.path else Path.cwd()

    @property
    def watchlist(self) -> Path:
        """Where the watchlist is."""
        return self.place(self.config.prices.watchlist)

    @property
    def service(self) -> str | None:
        """What the service that reads this file calls its directories: pricecheck[-INSTANCE].

        None for a file that no service reads. So a command finds what the service keeps.
        """
        if self.path is None or self.path.name != FILE_NAME:
            return None
        folder = self.folder.absolute()
        if folder == SERVICES:
            return SERVICES.name
        return f"{SERVICES.name}-{folder.name}" if folder.parent == SERVICES else None

    @property
    def unit(self) -> str | None:
        """What systemd calls the service that reads this file; None where there is none."""
        if self.service is None:
            return None
        _, _, instance = self.service.partition("-")
        return f"pricecheck@{instance}.service" if instance else "pricecheck.service"

    def state_directory(self) -> Path:
        """Return where outbox and lock are: by config, by systemd, or the user's own."""
        if self.config.state_directory:
            return self.place(self.config.state_directory)
        if systemd := os.environ.get("STATE_DIRECTORY"):
            return Path(systemd.split(":")[0])
        if self.service:
            return Path("/var/lib") / self.service
        home = os.environ.get("XDG_STATE_HOME", "")
        if not Path(home).is_absolute():  # to be ignored then, by the XDG rules
            home = "~/.local/state"
        return self.place(home) / "pricecheck"

    def socket_directory(self) -> Path:
        """Return where the status socket is: a running service's own place, else the state's."""
        if systemd := os.environ.get("RUNTIME_DIRECTORY"):
            return Path(systemd.split(":")[0])
        if self.service and (runtime := Path("/run") / self.service).is_dir():
            return runtime
        return self.state_directory()

    def secret(self, name: str, file: str | None) -> str | None:
        """Return a sink's secret: from the environment, a systemd credential, or a file.

        `name` is the credential's, such as kafka-sasl-password; the variable is called
        KAFKA_SASL_PASSWORD then. A command has what its user may read of what the unit hands to
        the service. It is kept out of the log from now on. None when there is none; ConfigError
        when it can't be read.
        """
        secret = os.environ.get(name.upper().replace("-", "_"), "").strip()
        secret = secret or systemd.credential(name) or ""
        if not secret:
            secret = _read_key(self.place(file), name) if file else self._handed_out(name) or ""
        redact(secret)
        return secret or None

    def api_key(self) -> str:
        """Return the API key: from the environment, a systemd credential, or keepa.key_file.

        It is kept out of the log from now on. Raises ConfigError when there is none; a simulator
        needs none.
        """
        key = self._find_api_key()
        redact(key)
        return key

    def _find_api_key(self) -> str:
        if key := os.environ.get(KEY_VARIABLE, "").strip():
            return _sound_key(key, KEY_VARIABLE)
        if key := systemd.credential(KEY_CREDENTIAL) or "":
            return _sound_key(key, f"the credential {KEY_CREDENTIAL}")
        if self.config.keepa.key_file:
            file = self.place(self.config.keepa.key_file)
            return _sound_key(_read_key(file), str(file))
        if self.config.simulated:
            return SIMULATED_KEY
        if key := self._handed_out(KEY_CREDENTIAL) or "":
            return _sound_key(key, str(self.folder / KEY_CREDENTIAL))
        remedy = f"name a file that holds it: keepa.key_file in {self.path or FILE_NAME}"
        if self.service:  # which names that file to systemd
            remedy = f"put it into {self.folder / KEY_CREDENTIAL}, readable by root alone"
        raise ConfigError("no Keepa API key", remedy=f"set {KEY_VARIABLE}, or {remedy}")

    def _handed_out(self, name: str) -> str | None:
        """Return what the unit hands to the service as a credential, for a command of root's.

        None where there is none, and in the service itself: it has its credentials already.
        """
        file = self.folder / name
        if not self.service or systemd.hands_credentials() or not _has_text(file):
            return None
        return _read_key(file, name, remedy="run this as root: the file is root's alone")

    def place(self, path: str) -> Path:
        """Return what a path in the config means, ~ included. Raises ConfigError."""
        try:
            return self.folder / Path(path).expanduser()
        except RuntimeError as error:
            raise ConfigError(f"{path}: {error}", remedy="write the whole path") from None


def _has_text(file: Path) -> bool:
    """Tell whether a file is there and not empty, as one is that waits for its secret."""
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


def _read_key(path: Path, name: str = "API key", remedy: str = "check owner and mode") -> str:
    try:
        key = path.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: the {name} can't be read: {reason}", remedy=remedy) from None
    if not key:
        raise ConfigError(f"{path}: holds no {name}", remedy="put it on the first line")
    return key


def _sound_key(key: str, source: str) -> str:
    """Return a Keepa key that can travel in an address. Raises ConfigError, without showing it."""
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            f"{source}: what stands there is no API key: it holds more than letters and digits",
            remedy="put the key there, and nothing else",
        )
    return key
