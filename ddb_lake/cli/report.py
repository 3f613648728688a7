"""`ddb-lake report`: one HTML page of a lake."""

from __future__ import annotations

from pathlib import Path

import click

from ddb_lake.cli.command import command
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.quantities import size_text


@command(
    "report",
    "Write an HTML page about the lake.",
    "ddb-lake report",
    "ddb-lake report --output pages/lake.html",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The file to write.",
)
@pass_invocation
def report(invocation: Invocation, output: Path) -> None:
    """Write one self-contained HTML page: tables, freshness, volumes over time, quarantine and verification.

    It has no items of the tables in it, and needs no network to be looked at.
    """
    from ddb_lake.cli.reportpage import page
    from ddb_lake.stages.overview import lake_overview

    with invocation.lake() as lake:
        text = page(lake.settings.warehouse, lake.now(), lake_overview(lake))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    click.echo(f"Wrote {output} ({size_text(output.stat().st_size)}).")
