"""`pricecheck notify`: try the services that people are told of alerts through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pricecheck.cli._options import config_option

if TYPE_CHECKING:
    from pricecheck.config import Settings


@click.group("notify")
def command() -> None:
    """Tell people: the services that [notify] and NOTIFY_URLS name.

    Alerts go there by themselves while the daemon runs; what rings stands in [[alerts]].
    """


@command.command("test")
@config_option
def test(settings: Settings) -> None:
    """Send one message to each service, and say what became of it.

    Exits with 69 when a service could not be told, 78 when there is none.
    """
    from pricecheck.cli._telling import tell_all
    from pricecheck.deliver.chart import example
    from pricecheck.deliver.wording import test_message

    tell_all(settings, test_message, picture=example)
