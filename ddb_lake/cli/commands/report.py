"""`ddb-lake report`: one HTML page about a lake."""

from __future__ import annotations

from pathlib import Path

import click

from ddb_lake.cli.command import command, json_option
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.quantities import size_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document


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
@json_option
@pass_invocation
def report(invocation: Invocation, output: Path, as_json: bool) -> None:
    """Write one self-contained HTML page: tables, freshness, volumes over time, quarantine and verification.

    The page contains no items of the tables, and a browser needs no network for it.
    """
    from ddb_lake.cli.report.page import page
    from ddb_lake.pipeline.read.overview import lake_overview

    with invocation.lake() as lake:
        tables = lake_overview(lake)
        text = page(lake.settings.warehouse, lake.now(), tables)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    if as_json:
        names = [table.status.table for table in tables]
        write_document({"path": str(output), "bytes": output.stat().st_size, "tables": names})
        return
    echo(f"Wrote {output} ({size_text(output.stat().st_size)}).")
