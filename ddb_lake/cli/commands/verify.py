"""`ddb-lake verify`: does the lake equal its source?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.quantities import count_text, duration_text
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import Duration
from ddb_lake.core.values.time_text import iso_text, time_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.verify.report import Cost, Report

SHOWN = 50
"""Differences shown as a table; `--json` has them all."""


read_rate_option = click.option(
    "--read-rate", type=click.FloatRange(min=1), metavar="RCU", help="Read units a second at most; default: 100."
)


@command(
    "verify",
    "Compare the lake with its source.",
    "ddb-lake verify orders",
    "ddb-lake verify orders --sample 1000 --read-rate 50 --settle 10m",
    "ddb-lake verify orders --full --export s3://exports/AWSDynamoDB/01715685260608-c488b4e1/",
    "ddb-lake verify orders --full --scan --json > report.json",
)
@table_argument
@click.option("--sample", type=click.IntRange(min=0), metavar="N", help="N keys of each side; 0: counts alone. [100]")
@click.option("--full", is_flag=True, help="Every key, against --export, --scan, or else a new export.")
@click.option("--export", "export_uri", metavar="URI", help="Every key, against this finished full export.")
@click.option("--scan", is_flag=True, help="Every key, against a scan of the source: for small tables.")
@read_rate_option
@click.option("--settle", "settle_s", type=Duration(), default=0.0, help="Wait so long for changes under way. [0s]")
@json_option
@pass_invocation
def verify(
    invocation: Invocation,
    table: str,
    sample: int | None,
    full: bool,
    export_uri: str | None,
    scan: bool,
    read_rate: float | None,
    settle_s: float,
    as_json: bool,
) -> None:
    """Compare TABLE's lake with its source and name every key at fault: missing, extra, stale, wrong, doubled.

    Without options: counts, and a sample of 100 keys of each side, read with strong consistency. What it takes from the
    source is said first. The exit status is 1 if anything differs or is in doubt. The report is kept for
    `ddb-lake repair`.
    """
    full = full or scan or export_uri is not None
    if full and sample is not None:
        raise click.UsageError("--sample and a full comparison exclude each other")
    if scan and export_uri is not None:
        raise click.UsageError("--scan and --export exclude each other")
    from ddb_lake.pipeline.verify.report import keep_report

    with invocation.lake(table) as lake:
        report = (
            _full(lake, table, export_uri, scan, read_rate, settle_s)
            if full
            else _sample(lake, table, sample, read_rate, settle_s)
        )
        if report.strength != "counts":
            keep_report(lake, report)
    _show(report, as_json)
    if report.outcome != "equal":
        raise click.exceptions.Exit(1)


def _sample(lake: Lake, table: str, sample: int | None, read_rate: float | None, settle_s: float) -> Report:
    from ddb_lake.pipeline.verify.compare import DEFAULT_READ_RATE
    from ddb_lake.pipeline.verify.full import expected_cost, verify_counts
    from ddb_lake.pipeline.verify.sample import DEFAULT_SAMPLE, verify_sample

    counts = verify_counts(lake, table)
    size = DEFAULT_SAMPLE if sample is None else sample
    if size == 0:
        return counts
    note(f"{table}: {counts.rows:,} rows, the source counts {counts.source_items or 0:,} items ({counts.notes[0]})")
    _announce(table, expected_cost(lake.table(table), "sample", size))
    return verify_sample(lake, table, size, read_rate=read_rate or DEFAULT_READ_RATE, settle_s=settle_s)


def _full(
    lake: Lake, table: str, export_uri: str | None, scan: bool, read_rate: float | None, settle_s: float
) -> Report:
    from ddb_lake.pipeline.verify.compare import DEFAULT_READ_RATE
    from ddb_lake.pipeline.verify.full import expected_cost, verify_export, verify_scan

    if export_uri is not None:
        return verify_export(lake, table, export_uri, settle_s)
    _announce(table, expected_cost(lake.table(table), "full", scan=scan))
    if scan:
        return verify_scan(lake, table, read_rate=read_rate or DEFAULT_READ_RATE, settle_s=settle_s)
    from ddb_lake.aws.exports import start_export, wait_for_export

    settings = lake.table(table)
    told = f"{table}: seconds waited for DynamoDB"
    state = wait_for_export(settings, start_export(settings), lambda waited: lake.progress(told, waited))
    note(f"{table}: export {state.manifest_uri}; `ddb-lake load` takes it into the lake as well")
    return verify_export(lake, table, state.manifest_uri, settle_s)


def _announce(table: str, cost: Cost) -> None:
    if cost.export_gb:
        note(f"{table}: exports about {cost.export_gb:,.3f} GB, {cost.usd:,.2f} USD at list price")
    elif cost.read_units:
        note(f"{table}: takes about {cost.read_units:,.0f} read units from the source")


def _show(report: Report, as_json: bool) -> None:
    if as_json:
        document = report.to_json()
        for name in ("read_from", "read_to", "watermark"):
            document[name] = iso_text(document[f"{name}_us"])
        write_document(document)
        return
    said = "equal" if report.outcome == "equal" else report.outcome
    what = f"{report.table}: {said}: " + (
        f"{count_text(report.compared, 'key')} compared with {report.source}"
        if report.strength != "counts"
        else f"{report.rows:,} rows, {report.source}: {report.source_items or 0:,} items"
    )
    click.echo(f"{what}, {duration_text(report.seconds)}.")
    if report.explained:
        click.echo(f"{count_text(report.explained, 'key')} changed around the reading and are no fault.")
    if report.doubtful:
        click.echo(
            f"{count_text(report.doubtful, 'difference')} may be changes under way (the lake has changes up to"
            f" {time_text(report.watermark_us)}): verify again with `--settle`, or later."
        )
    if report.differences:
        rows = [
            (d.kind, "" if d.certain else "in doubt", d.cause, *(_text(v) for v in d.key.values()))
            for d in report.differences[:SHOWN]
        ]
        print_table(("difference", "", "of", *report.differences[0].key), rows)
        if report.total > SHOWN:
            click.echo(f"({count_text(report.total - SHOWN, 'more difference', 'more differences')}; --json has them)")
        click.echo(f"`ddb-lake repair {report.table}` mends them.")
    for remark in report.notes:
        note(remark)


def _text(value: dict[str, Any]) -> str:
    return str(next(iter(value.values())))
