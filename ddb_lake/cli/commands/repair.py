"""`ddb-lake repair`: mend the keys that a verification found, and gaps."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.commands.verify import read_rate_option
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.quantities import count_text, duration_text
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.values.time_text import time_text
from ddb_lake.errors import UsageError

if TYPE_CHECKING:
    from ddb_lake.pipeline.capture.gap_repair import GapsResult
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.verify.repair import RepairResult


@command(
    "repair",
    "Mend what verify found, and gaps.",
    "ddb-lake repair orders",
    "ddb-lake repair orders --keys-from report.json --from-export s3://exports/AWSDynamoDB/01715685260608-c488b4e1/",
    "ddb-lake repair orders --gaps",
)
@table_argument
@click.option("--from-source", is_flag=True, help="Take the items from the source, by key. The default.")
@click.option("--from-export", "export_uri", metavar="URI", help="Take the items from a full export.")
@click.option(
    "--keys-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="REPORT.json",
    help="What `ddb-lake verify --json` printed; default: the table's last report.",
)
@click.option("--gaps", is_flag=True, help="Mend gaps in the changes, by incremental exports or a new full one.")
@read_rate_option
@json_option
@pass_invocation
def repair(
    invocation: Invocation,
    table: str,
    from_source: bool,
    export_uri: str | None,
    keys_from: Path | None,
    gaps: bool,
    read_rate: float | None,
    as_json: bool,
) -> None:
    """Mend exactly the keys of TABLE that a verification found.

    What the source has of each key lands as a record of its own and is applied like any other: a later change still
    wins. The keys are read again afterwards; the exit status is 1 if one still differs, or a gap is still open.
    """
    if from_source and export_uri is not None:
        raise click.UsageError("--from-source and --from-export exclude each other")
    if gaps and (from_source or export_uri is not None or keys_from is not None):
        raise click.UsageError("--gaps stands alone: exports of the gaps' time mend every key that changed in them")
    with invocation.lake(table) as lake:
        done = (
            _mend_gaps(lake, table, as_json)
            if gaps
            else _mend_keys(lake, table, export_uri, keys_from, read_rate, as_json)
        )
    if not done:
        raise click.exceptions.Exit(1)


def _mend_keys(
    lake: Lake, table: str, export_uri: str | None, keys_from: Path | None, read_rate: float | None, as_json: bool
) -> bool:
    from ddb_lake.pipeline.verify.compare import DEFAULT_READ_RATE
    from ddb_lake.pipeline.verify.repair import repair_from_export, repair_from_source
    from ddb_lake.pipeline.verify.report import keys_of, last_report

    document = last_report(lake, table) if keys_from is None else _document(keys_from)
    if document is None:
        raise UsageError(
            f"{table}: was never verified, so no key is known to be at fault; run `ddb-lake verify {table}`"
        )
    keys = keys_of(document, table)
    if document.get("total", 0) > len(keys):
        note(
            f"{table}: the report lists {len(keys):,} of {document['total']:,} keys; verify and repair again, or load a new export"
        )
    if export_uri is not None:
        result = repair_from_export(lake, table, keys, export_uri)
    else:
        result = repair_from_source(lake, table, keys, read_rate=read_rate or DEFAULT_READ_RATE)
    _show(result, as_json)
    return not result.left


def _document(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: no JSON document ({error}); expected what `ddb-lake verify --json` printed"
        ) from error
    if not isinstance(found, dict):
        raise UsageError(f"{path}: no report; expected what `ddb-lake verify --json` printed")
    return found


def _show(result: RepairResult, as_json: bool) -> None:
    if as_json:
        write_document(asdict(result) | {"left": [found.to_json() for found in result.left]})
        return
    click.echo(
        f"{result.table}: mended {count_text(result.keys, 'key')} from {result.source}: {result.present:,} are there,"
        f" {result.absent:,} are gone; now {count_text(result.rows, 'row')}, {duration_text(result.seconds)}."
    )
    if result.left:
        click.echo(f"{count_text(len(result.left), 'key')} still differ: they may be changing; verify again.")


def _mend_gaps(lake: Lake, table: str, as_json: bool) -> bool:
    from ddb_lake.pipeline.capture.gap_repair import repair_gaps

    result = repair_gaps(lake, table)
    if as_json:
        write_document(asdict(result))
    else:
        _show_gaps(result)
    return not result.left


def _show_gaps(result: GapsResult) -> None:
    if not result.exports and not result.left:
        click.echo(f"{result.table}: no gaps.")
    for export in result.exports:
        click.echo(f"{result.table}: loaded {export}.")
    for gap in result.left:
        click.echo(
            f"{result.table}: open: {gap.kind} from {time_text(gap.from_us)} to {time_text(gap.to_us)}: {gap.reason}"
        )
    if result.again_us is not None:
        click.echo(f"Exports can mend the rest after {time_text(result.again_us)}: repair again then.")
