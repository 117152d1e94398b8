"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from pricecheck.config import Settings
    from pricecheck.keepa.tables import Marketplace
    from pricecheck.outbox import Outbox

F = TypeVar("F", bound=Callable[..., Any])


class _Market(click.ParamType[Any, Any]):
    name = "marketplace"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Marketplace:
        from pricecheck.errors import InputError
        from pricecheck.keepa.tables import Marketplace, marketplace

        if isinstance(value, Marketplace):
            return value
        try:
            return marketplace(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


class _Duration(click.ParamType[Any, Any]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from pricecheck.durations import parse_duration
        from pricecheck.errors import InputError

        if isinstance(value, int):
            return value
        try:
            return parse_duration(value)
        except InputError as error:
            self.fail(str(error), param, ctx)


class Figure(click.FloatRange):
    """A number of a range, and not nan or infinite, which a range alone lets through."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        figure: float = super().convert(value, param, ctx)
        if not math.isfinite(figure):
            self.fail(f"{value} is not a number.", param, ctx)
        return figure


DURATION = _Duration()
"""A duration such as 12h or 30d, as seconds."""


def config_option(command: F) -> F:
    """Add `--config FILE`; without it the file that `pricecheck.config.find` finds."""
    return _config_option(_load)(command)


def asking_config_option(command: F) -> F:
    """Add `--config FILE` to a command that only asks the daemon.

    The daemon of a service can be asked even while that file doesn't hold.
    """
    return _config_option(_load_or_guess)(command)


def domain_option(command: F) -> F:
    """Add `--domain CODE`, a Marketplace or None."""
    return click.option(
        "--domain", "market", type=_Market(), metavar="CODE", help="Of this marketplace: DE, UK."
    )(command)


def check_price_type(name: str) -> str:
    """Return the price type of that name. Raises InputError when there is none."""
    from pricecheck.errors import InputError
    from pricecheck.keepa.tables import PRICES

    names = [each.name for each in PRICES]
    if name.upper() not in names:
        raise InputError(f"{name!r} is no price type", remedy="use one of " + ", ".join(names))
    return name.upper()


def json_option(command: F) -> F:
    """Add `--json`, the flag `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def find_config(file: str | None) -> Path | None:
    """Return the config file to use: the one named, else the first of the usual places."""
    from pricecheck import config

    return Path(file) if file else config.find()


@contextmanager
def stored(settings: Settings) -> Iterator[Outbox]:
    """Open the outbox for reading. Raises StoreError when there is none."""
    from pricecheck.outbox import FILE_NAME, open_readonly

    with closing(open_readonly(settings.state_directory() / FILE_NAME)) as outbox:
        yield outbox


@contextmanager
def writable(settings: Settings) -> Iterator[Outbox]:
    """Open the outbox as a second writer. Raises StoreError when there is none."""
    from pricecheck.outbox import FILE_NAME, Outbox

    with stored(settings):
        pass  # opening it to write would make one
    path = settings.state_directory() / FILE_NAME
    with closing(Outbox.open(path, now_ms=settings.config.time.now_ms, verify=False)) as outbox:
        yield outbox


def say_simulated(settings: Settings) -> None:
    """Say on standard error that what follows is made up, if it is."""
    if settings.config.simulated:
        click.secho("SIMULATED: no price below is real", fg="magenta", bold=True, err=True)


def _config_option(load: Callable[..., Settings | None]) -> Callable[[F], F]:
    return click.option(
        "--config",
        "settings",
        metavar="FILE",
        callback=load,
        help="Read this file.  [default: ./pricecheck.toml, or /etc/pricecheck's]",
    )


def _load(ctx: click.Context, param: click.Parameter, file: str | None) -> Settings | None:
    from pricecheck import config

    if ctx.resilient_parsing:
        return None
    above = ctx.parent.params.get("settings") if ctx.parent else None
    if above and not file:  # `outbox --config FILE list` as well as `outbox list --config FILE`
        return cast("Settings", above)
    return config.load(find_config(file))


def _load_or_guess(ctx: click.Context, param: click.Parameter, file: str | None) -> Settings | None:
    from pricecheck import config
    from pricecheck.errors import ConfigError

    try:
        return _load(ctx, param, file)
    except ConfigError:
        unread = config.Settings(config.Config(), find_config(file))
        if unread.service is None:
            raise
        return unread
