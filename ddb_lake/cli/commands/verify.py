"""`ddb-lake verify`: compare the lake with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, json_option, options_object, read_rate_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.quantities import duration_text
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.cli.parameter_types import Duration
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import iso_text, time_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.read.verification_report import Cost, Report

SHOWN = 50
"""How many differences are printed as a table; `--json` has them all."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """The options of `verify`."""

    sample: int | None
    full: bool
    export_uri: str | None
    scan: bool
    read_rate: float | None
    settle_s: float
    continuity: bool
    as_json: bool


@command(
    "verify",
    "Compare the lake with its source.",
    "ddb-lake verify orders",
    "ddb-lake verify orders --sample 1000 --read-rate 50 --settle 10m",
    "ddb-lake verify orders --full --export s3://exports/AWSDynamoDB/01715685260608-c488b4e1/",
    "ddb-lake verify orders --full --scan --json > report.json",
    "ddb-lake verify orders --continuity",
)
@table_argument
@click.option(
    "--sample", type=click.IntRange(min=0), metavar="N", help="Compare N keys of each side; 0: only counts. [100]"
)
@click.option("--full", is_flag=True, help="Compare every key with --export, --scan, or else a new export.")
@click.option("--export", "export_uri", metavar="URI", help="Compare every key with this finished full export.")
@click.option("--scan", is_flag=True, help="Compare every key with a scan of the source, for small tables.")
@read_rate_option
@click.option(
    "--settle",
    "settle_s",
    type=Duration(),
    default=0.0,
    help="How long to wait for changes that are not in the lake yet. [0s]",
)
@click.option(
    "--continuity",
    is_flag=True,
    help="Do not read the source: compare the old image of every change record with the state before it.",
)
@json_option
@options_object(VerifyOptions)
@pass_invocation
def verify(invocation: Invocation, table: str, options: VerifyOptions) -> None:
    """Compare TABLE's lake with its source and name every key that differs: missing, extra, stale, wrong, doubled.

    Without options: counts, and a sample of 100 keys of each side, read with strong consistency. The expected use of
    the source is printed first. The exit status is 1 if anything differs or is in doubt. The report is kept for
    `ddb-lake repair`.

    With --continuity: a change record whose old image differs from the state before it proves that a change is missing.
    The time of the missing changes is recorded as a gap for `ddb-lake repair --gaps`.
    """
    if options.continuity:
        _verify_continuity(invocation, table, options)
        return
    full = options.full or options.scan or options.export_uri is not None
    if full and options.sample is not None:
        raise click.UsageError("--sample and a full comparison exclude each other")
    if options.scan and options.export_uri is not None:
        raise click.UsageError("--scan and --export exclude each other")
    from ddb_lake.pipeline.read.verification_report import keep_report

    with invocation.lake(table) as lake:
        report = _verify_full(lake, table, options) if full else _verify_sample(lake, table, options)
        if report.strength != "counts":
            keep_report(lake, report)
    _print_report(report, options.as_json)
    if report.outcome != "equal":
        raise click.exceptions.Exit(1)


def _verify_continuity(invocation: Invocation, table: str, options: VerifyOptions) -> None:
    if options.full or options.scan or options.export_uri is not None or options.sample is not None or options.settle_s:
        raise click.UsageError(
            "--continuity reads nothing but the lake: it excludes --sample, --full, --export, --scan, --settle"
        )
    from ddb_lake.checks.continuity import CONTINUITY_QUESTION, continuity_outcome
    from ddb_lake.pipeline.verify.continuity import examine_continuity

    with invocation.lake(table) as lake:
        found = examine_continuity(lake, table)
    outcome = continuity_outcome(found)
    if options.as_json:
        write_document({"state": outcome.state, "text": outcome.sentence(CONTINUITY_QUESTION)} | found.to_json())
    else:
        echo(f"{table}: {outcome.sentence(CONTINUITY_QUESTION)}")
        if found.listed:
            rows = [
                (b.explanation, time_text(b.from_us), time_text(b.to_us), *(_scalar(value) for value in b.key.values()))
                for b in found.listed[:SHOWN]
            ]
            print_table(("change", "after", "before", *found.listed[0].key), rows)
            hidden = found.breaks.total() - len(rows)
            if hidden > 0:
                listed = (
                    "--json has them" if found.breaks.total() == len(found.listed) else "--json has the first of them"
                )
                echo(f"({count_text(hidden, 'more break')}; {listed})")
    if outcome.state != "pass":
        raise click.exceptions.Exit(1)


def _verify_sample(lake: Lake, table: str, options: VerifyOptions) -> Report:
    from ddb_lake.core.operations.rate_limit import DEFAULT_READ_RATE
    from ddb_lake.pipeline.verify.full import expected_cost, verify_counts
    from ddb_lake.pipeline.verify.sample import DEFAULT_SAMPLE, verify_sample

    counts = verify_counts(lake, table)
    size = DEFAULT_SAMPLE if options.sample is None else options.sample
    if size == 0:
        return counts
    note(
        f"{table}: {count_text(counts.rows, 'row')}, the source counts {count_text(counts.source_items or 0, 'item')} ({counts.notes[0]})"
    )
    _print_cost(table, expected_cost(lake.table(table), "sample", size))
    read_rate = options.read_rate or DEFAULT_READ_RATE
    return verify_sample(lake, table, size, read_rate=read_rate, settle_s=options.settle_s)


def _verify_full(lake: Lake, table: str, options: VerifyOptions) -> Report:
    from ddb_lake.core.operations.rate_limit import DEFAULT_READ_RATE
    from ddb_lake.pipeline.verify.full import expected_cost, verify_export, verify_scan

    if options.export_uri is not None:
        return verify_export(lake, table, options.export_uri, options.settle_s)
    _print_cost(table, expected_cost(lake.table(table), "full", scan=options.scan))
    if options.scan:
        read_rate = options.read_rate or DEFAULT_READ_RATE
        return verify_scan(lake, table, read_rate=read_rate, settle_s=options.settle_s)
    from ddb_lake.aws.export_requests import start_export, wait_for_export

    settings = lake.table(table)
    waited = f"{table}: seconds waited for DynamoDB"
    state = wait_for_export(settings, start_export(settings), lambda waited_s: lake.progress(waited, waited_s))
    note(f"{table}: export {state.manifest_uri}; `ddb-lake load` can load it into the lake")
    return verify_export(lake, table, state.manifest_uri, options.settle_s)


def _print_cost(table: str, cost: Cost) -> None:
    if cost.export_gb:
        note(f"{table}: exports about {cost.export_gb:,.3f} GB, {cost.usd:,.2f} USD at list price")
    elif cost.read_units:
        note(f"{table}: reads about {count_text(round(cost.read_units), 'read unit')} from the source")


def _print_report(report: Report, as_json: bool) -> None:
    from ddb_lake.pipeline.protection import remedy

    if as_json:
        document = report.to_json()
        for name in ("read_from", "read_to", "watermark"):
            document[name] = iso_text(document[f"{name}_us"])
        write_document(document)
        return
    summary = f"{report.table}: {report.outcome}: " + (
        f"{count_text(report.compared, 'key')} compared with {report.source}"
        if report.strength != "counts"
        else f"{count_text(report.rows, 'row')}, {report.source}: {count_text(report.source_items or 0, 'item')}"
    )
    echo(f"{summary}, {duration_text(report.seconds)}.")
    if report.explained:
        echo(
            f"{count_text(report.explained, 'of these keys differs', 'of these keys differ')} because of a change at or after"
            f" the time of the read ({time_text(report.read_to_us)}); the lake has the change: not a fault."
        )
    if report.doubtful:
        echo(
            f"Still being judged: {count_text(report.doubtful, 'difference')} that a change which has not landed may explain."
            f" The source was read until {time_text(report.read_to_us)}, and the lake has changes up to"
            f" {time_text(report.watermark_us)}: verify again with `--settle`, or later."
        )
    if report.differences:
        rows = [
            (d.kind, "" if d.certain else "in doubt", d.cause, *(_scalar(value) for value in d.key.values()))
            for d in report.differences[:SHOWN]
        ]
        print_table(("difference", "", "of", *report.differences[0].key), rows)
        if report.total > SHOWN:
            echo(f"({count_text(report.total - SHOWN, 'more difference', 'more differences')}; --json has them)")
        echo(remedy(report.table, report.changed_rules))
    for remark in report.notes:
        note(remark)


def _scalar(value: dict[str, Any]) -> str:
    return str(next(iter(value.values())))
