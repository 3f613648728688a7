"""`ddb-lake repair`: correct the keys that a verification reported, and fill gaps in the changes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, json_option, options_object, read_rate_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.quantities import duration_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.errors import UsageError

if TYPE_CHECKING:
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.verify.gap_repair import GapsResult
    from ddb_lake.pipeline.verify.repair import RepairResult


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """The options of `repair`."""

    from_source: bool
    export_uri: str | None
    keys_from: Path | None
    gaps: bool
    read_rate: float | None
    as_json: bool


@command(
    "repair",
    "Repair the keys that verify reported, and gaps.",
    "ddb-lake repair orders",
    "ddb-lake repair orders --keys-from report.json --from-export s3://exports/AWSDynamoDB/01715685260608-c488b4e1/",
    "ddb-lake repair orders --gaps",
)
@table_argument
@click.option("--from-source", is_flag=True, help="Read the items from the source, by key. The default.")
@click.option("--from-export", "export_uri", metavar="URI", help="Read the items from a full export.")
@click.option(
    "--keys-from",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="REPORT.json",
    help="A report of `ddb-lake verify --json`; default: the table's last report.",
)
@click.option("--gaps", is_flag=True, help="Fill gaps in the changes, by incremental exports or a new full one.")
@read_rate_option
@json_option
@options_object(RepairOptions)
@pass_invocation
def repair(invocation: Invocation, table: str, options: RepairOptions) -> None:
    """Repair exactly the keys of TABLE that a verification reported.

    For each key, the item of the source lands as a record of its own and is applied like any other: a later change
    still wins. The keys are read again afterwards; the exit status is 1 if one still differs, or a gap is still open.
    """
    if options.from_source and options.export_uri is not None:
        raise click.UsageError("--from-source and --from-export exclude each other")
    if options.gaps and (options.from_source or options.export_uri is not None or options.keys_from is not None):
        raise click.UsageError("--gaps excludes the other sources: exports repair every key that changed in a gap")
    with invocation.lake(table) as lake:
        repaired = _repair_gaps(lake, table, options.as_json) if options.gaps else _repair_keys(lake, table, options)
    if not repaired:
        raise click.exceptions.Exit(1)


def _repair_keys(lake: Lake, table: str, options: RepairOptions) -> bool:
    from ddb_lake.core.operations.rate_limit import DEFAULT_READ_RATE
    from ddb_lake.pipeline.read.verification_report import keys_of, last_report
    from ddb_lake.pipeline.verify.repair import repair_from_export, repair_from_source

    document = last_report(lake, table) if options.keys_from is None else _read_report(options.keys_from)
    if document is None:
        raise UsageError(
            "there is no report of a verification", table=table, hint=f"run `ddb-lake verify {table}` first"
        )
    keys = keys_of(document, table)
    if document.get("total", 0) > len(keys):
        note(
            f"{table}: the report lists {len(keys):,} of {count_text(document['total'], 'key')}; verify and repair"
            " again, or load a new export"
        )
    if options.export_uri is not None:
        result = repair_from_export(lake, table, keys, options.export_uri)
    else:
        result = repair_from_source(lake, table, keys, read_rate=options.read_rate or DEFAULT_READ_RATE)
    _print_result(result, options.as_json)
    return not result.left


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"no JSON document ({error}); expected a report of `ddb-lake verify --json`", uri=str(path)
        ) from error
    if not isinstance(report, dict):
        raise UsageError("no JSON object; expected a report of `ddb-lake verify --json`", uri=str(path))
    return report


def _print_result(result: RepairResult, as_json: bool) -> None:
    if as_json:
        write_document(asdict(result) | {"left": [difference.to_json() for difference in result.left]})
        return
    echo(
        f"{result.table}: repaired {count_text(result.keys, 'key')} from {result.source}: {result.present:,} exist there,"
        f" {result.absent:,} do not; now {count_text(result.rows, 'row')}, {duration_text(result.seconds)}."
    )
    if result.left:
        echo(f"{count_text(len(result.left), 'key')} still differ: they may be changing now; verify again.")


def _repair_gaps(lake: Lake, table: str, as_json: bool) -> bool:
    from ddb_lake.pipeline.verify.gap_repair import repair_gaps

    result = repair_gaps(lake, table)
    if as_json:
        write_document(asdict(result))
    else:
        _print_gaps(result)
    return not result.left


def _print_gaps(result: GapsResult) -> None:
    if not result.exports and not result.left:
        echo(f"{result.table}: no gaps.")
    for export in result.exports:
        echo(f"{result.table}: loaded {export}.")
    for gap in result.left:
        echo(f"{result.table}: open: {gap.kind} from {time_text(gap.from_us)} to {time_text(gap.to_us)}: {gap.reason}")
    if result.again_us is not None:
        echo(f"Exports can fill the rest after {time_text(result.again_us)}: repair again then.")
