"""Sends one message to each service that is configured, now."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click
import trio

from pricecheck import logs
from pricecheck.config import Settings
from pricecheck.deliver.configured import notifiers
from pricecheck.deliver.notify import Form, NotifySink
from pricecheck.deliver.sink import SinkError
from pricecheck.deliver.wording import Message, Voice
from pricecheck.errors import ConfigError


def tell_all(
    settings: Settings,
    message: Callable[[Voice], Message],
    form: Form = "text",
    *,
    picture: Callable[[Voice], bytes | None] = lambda _: None,
) -> None:
    """Send a message to each service, with a picture if it takes any, and print what became of it.

    Exits with EX_UNAVAILABLE when one could not be told. Raises ConfigError when there is none.
    """
    sinks = notifiers(settings)
    if not sinks:
        raise ConfigError(
            "there is nobody to tell",
            remedy="put [notify] into the config, and the addresses into NOTIFY_URLS",
        )
    width = max(len(sink.name) for sink in sinks)
    told = trio.run(_tell_each, sinks, message, form, picture)
    for sink, reason in zip(sinks, told, strict=True):
        said = click.style("told", fg="green") if reason is None else click.style(reason, fg="red")
        click.echo(f"{sink.name:<{width}}  {said}", err=reason is not None)
    if any(told):
        sys.exit(os.EX_UNAVAILABLE)


async def _tell_each(
    sinks: list[NotifySink],
    message: Callable[[Voice], Message],
    form: Form,
    picture: Callable[[Voice], bytes | None],
) -> list[str | None]:
    """Tell all at once; return what kept each from it, or None."""
    reasons: dict[str, str] = {}

    async def tell(sink: NotifySink) -> None:
        try:
            drawn = await trio.to_thread.run_sync(picture, sink.voice)
            await sink.tell(message(sink.voice), form, picture=drawn)
        except SinkError as error:
            reasons[sink.name] = logs.redacted(error.message)

    async with trio.open_nursery() as nursery:
        for sink in sinks:
            nursery.start_soon(tell, sink)
    return [reasons.get(sink.name) for sink in sinks]
