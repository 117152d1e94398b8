"""`pricecheck kibana`: the dashboards, into a file or into Kibana."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pricecheck.cli._options import config_option

if TYPE_CHECKING:
    from pricecheck.config import Settings

_FILE: Any = click.Path(dir_okay=False, path_type=Path, resolve_path=True)


@click.group("kibana")
def command() -> None:
    """Bring the dashboards to Kibana 8.9 or newer: tokens, prices, deals, health.

    Indices are called as [names] in the config says. To repeat it is harmless: dashboards of
    ours are replaced, those of others are left alone. Save a changed one under a new name.
    """


@command.command("install")
@config_option
@click.option("--url", required=True, envvar="KIBANA_URL", help="Such as http://localhost:5601.")
@click.option("--space", metavar="ID", help="Into this space.  [default: the default space]")
@click.option("--api-key-file", type=_FILE, help="A file with an API key (or KIBANA_API_KEY).")
@click.option("--username", envvar="KIBANA_USERNAME", help="As this user.")
@click.option("--password-file", type=_FILE, help="Its password (or KIBANA_PASSWORD).")
@click.option("--ca-file", type=_FILE, help="Trust what this authority has signed.")
def install(
    settings: Settings,
    url: str,
    space: str | None,
    api_key_file: Path | None,
    username: str | None,
    password_file: Path | None,
    ca_file: Path | None,
) -> None:
    """Import data views and dashboards through Kibana's own interface."""
    from pricecheck.kibana.api import Kibana, import_objects
    from pricecheck.kibana.saved_objects import export, saved_objects

    def secret(name: str, file: Path | None) -> str | None:
        return settings.secret(name, str(file) if file else None)

    kibana = Kibana(
        url=url,
        space=space,
        api_key=secret("kibana-api-key", api_key_file),
        username=username,
        password=secret("kibana-password", password_file),
        ca_file=str(ca_file) if ca_file else None,
    )
    names = settings.config.names
    count = import_objects(kibana, export(names))
    click.echo(f"{count} objects are in Kibana now:")
    for one in saved_objects(names):
        if one["type"] == "dashboard":
            address = f"{kibana.base}/app/dashboards#/view/{one['id']}"
            click.echo(f"  {one['attributes']['title']:<16} {address}")


@command.command("export")
@config_option
@click.option("--output", metavar="FILE", type=_FILE, help="Into this file.  [default: print it]")
def export_objects(settings: Settings, output: Path | None) -> None:
    """Write the file that Kibana imports: Stack Management, Saved Objects, Import."""
    from pricecheck.errors import InputError
    from pricecheck.kibana.saved_objects import export

    file = export(settings.config.names)
    if output is None:
        click.echo(file, nl=False)
        return
    try:
        output.write_text(file, "utf-8")
    except OSError as error:
        raise InputError(
            f"{output} can't be written: {error.strerror}", remedy="name another --output"
        ) from None
    click.echo(f"{file.count(chr(10))} objects in {output}")
