"""`pricecheck simulate`: run the simulator until a signal ends it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pricecheck.cli._options import Figure
from pricecheck.errors import PricecheckError

if TYPE_CHECKING:
    from pricecheck.simulator.settings import Settings


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: any free one.")
@click.option("--key", help="Refuse every other API key.  [default: any will do]")
@click.option("--seed", type=int, default=1, help="Which world, and which calls go wrong.")
@click.option(
    "--refill-rate", type=click.IntRange(0), default=20, help="Tokens a minute; 0: without end."
)
@click.option("--tokens", type=int, help="Tokens at the start.  [default: a full bucket]")
@click.option(
    "--time-factor",
    type=Figure(0, min_open=True),
    default=1.0,
    help="How many times faster simulated time passes.",
)
@click.option(
    "--epoch-ms",
    type=int,
    help="Unix time in ms at which simulated and real time agree.  [default: the start]",
)
@click.option("--bulk", is_flag=True, help="Products of real size, about 208 kB each.")
@click.option(
    "--distinct",
    type=click.IntRange(1),
    help="How many products differ; further ones repeat them, which is quicker.",
)
@click.option(
    "--not-found",
    type=Figure(0, 1, max_open=True),
    default=0.0,
    help="Share of ASINs that do not exist.",
)
@click.option("--no-deals", is_flag=True, help="A plan that answers 404 to /deal.")
@click.option(
    "--replay",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Serve the recorded /product answers (*.json) of a directory.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME:RATE[:PATH]",
    help="Let a share of the calls go wrong: timeout:0.1, 429:0.2:product.",
)
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append a JSON line per call to a file.",
)
def command(faults: tuple[str, ...], **options: object) -> None:
    """Serve a Keepa API on this machine, with invented products and prices.

    The same seed invents the same ones. No tokens are spent but its own.
    """
    # trio and the rest are slow to import, and `pricecheck --help` needs none of them.
    import msgspec
    import trio

    from pricecheck.simulator.settings import Settings, parse_fault

    options["faults"] = tuple(parse_fault(fault) for fault in faults)
    settings = msgspec.convert(options, Settings)
    try:
        trio.run(_until_signalled, settings)
    except ExceptionGroup as group:
        match group.exceptions:
            case [PricecheckError() as error]:
                raise error from None
        raise


async def _until_signalled(settings: Settings) -> None:
    import trio

    from pricecheck.simulator.server import serve

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            port: int = await nursery.start(serve, settings)
            rate = f"{settings.refill_rate} tokens" if settings.refill_rate else "endless tokens"
            click.echo(
                f"SIMULATED Keepa API on http://127.0.0.1:{port} (seed {settings.seed}, "
                f"{rate} a minute, time x{settings.time_factor:g})"
            )
            await anext(aiter(signals))
            nursery.cancel_scope.cancel()
