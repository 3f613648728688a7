"""`ddb-lake status`: what the lake holds and how far behind it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, json_option, optional_table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.quantities import duration_text, size_text
from ddb_lake.cli.output.tables import print_facts, print_table
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.values.time_text import time_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.read.status import TableStatus


@command(
    "status",
    "Show what the lake holds and how far behind it is.",
    "ddb-lake status",
    "ddb-lake status orders --json",
    "ddb-lake status --watch 5",
)
@optional_table_argument
@click.option(
    "--watch",
    "every_s",
    type=click.FloatRange(min=0.5),
    is_flag=False,
    flag_value=5.0,
    metavar="[SECONDS]",
    help="Show it again and again until Ctrl-C; every 5 seconds if no number is given.",
)
@json_option
@pass_invocation
def status(invocation: Invocation, table: str | None, every_s: float | None, as_json: bool) -> None:
    """Show rows, lag, watermark, files, bytes, exports and quarantine of TABLE, or of all tables.

    With --json: an object for TABLE; for all tables {"tables": [...]}.
    """
    if every_s is not None and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    named = [table] if table else []
    with invocation.lake(*named) as lake:
        names = named or [known.name for known in lake.settings.tables]
        if every_s is None:
            _show(lake, names, table, as_json)
        else:
            _watch(lake, names, table, every_s)


def _watch(lake: Lake, names: list[str], table: str | None, every_s: float) -> None:
    """Show the status over and over, at the top of a terminal, until Ctrl-C."""
    import time

    try:
        while True:
            click.clear()  # nothing where there is no terminal
            click.echo(f"{lake.now():%Y-%m-%d %H:%M:%S} UTC, every {every_s:g} s; Ctrl-C ends it\n")
            _show(lake, names, table, as_json=False)
            time.sleep(every_s)
    except KeyboardInterrupt:
        click.echo()


def _show(lake: Lake, names: list[str], table: str | None, as_json: bool) -> None:
    from ddb_lake.pipeline.read.status import table_status

    found = [table_status(lake, name) for name in names]
    if as_json:
        documents = [status_document(one) for one in found]
        write_document(documents[0] if table else {"tables": documents})
    elif table:
        print_facts(_facts(found[0]))
    else:
        _show_all(found)


def status_document(found: TableStatus) -> dict[str, Any]:
    """A table's status as JSON has it."""
    return asdict(found)


def _show_all(found: list[TableStatus]) -> None:
    headers = ("table", "rows", "changes", "watermark", "lag", "pending", "quarantined", "files", "size")
    print_table(
        headers,
        [
            (
                one.table,
                one.rows,
                one.changes,
                time_text(one.watermark_us),
                duration_text(one.lag_s),
                one.pending_batches,
                one.quarantined,
                one.files,
                size_text(one.bytes),
            )
            for one in found
        ],
    )


def _facts(found: TableStatus) -> list[tuple[str, Any]]:
    return [
        ("table", found.table),
        ("rows", f"{found.rows:,}"),
        ("columns", found.columns),
        ("change records", f"{found.changes:,}"),
        ("first change", time_text(found.first_change_us)),
        ("last change", time_text(found.last_change_us)),
        ("watermark", time_text(found.watermark_us)),
        ("lag", duration_text(found.lag_s)),
        ("pending batches", found.pending_batches),
        ("base export", time_text(found.base_export_us)),
        ("horizon", time_text(found.horizon_us)),
        ("exports", ", ".join(found.exports) or "-"),
        ("objects ingested", f"{found.objects:,}"),
        ("last commit", time_text(found.last_commit_us)),
        ("tombstones", f"{found.tombstones:,}"),
        ("quarantined", f"{found.quarantined:,}"),
        ("files", f"{found.files:,} and {found.delete_files:,} of deletes ({found.deleted_rows:,} rows)"),
        ("size", size_text(found.bytes)),
        ("gaps", f"{len(found.gaps)} open: `ddb-lake repair {found.table} --gaps`" if found.gaps else "-"),
        *(("column name", str(collision)) for collision in found.name_collisions),
        ("snapshots", found.snapshots),
        ("snapshot", found.snapshot_id),
    ]
