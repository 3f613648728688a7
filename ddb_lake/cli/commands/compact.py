"""`ddb-lake compact`: rewrite the files of a table without a change of its contents."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.quantities import size_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text

if TYPE_CHECKING:
    from ddb_lake.pipeline.maintain.compact import CompactResult


@command("compact", "Rewrite files for fast reading; the contents stay the same.", "ddb-lake compact orders")
@table_argument
@click.option("--force", is_flag=True, help="Rewrite even if the gain is small.")
@json_option
@pass_invocation
def compact(invocation: Invocation, table: str, force: bool, as_json: bool) -> None:
    """Merge the deletes of TABLE into its data files, expire old snapshots and remove unreferenced files.

    The contents stay the same.
    """
    from ddb_lake.pipeline.maintain.compact import compact_table

    with invocation.lake(table) as lake:
        result = compact_table(lake, table, force=force)
    if as_json:
        write_document(asdict(result))
    else:
        for line in compact_lines(result):
            echo(line)


def compact_lines(result: CompactResult) -> list[str]:
    """The result of a compaction in one line, and a line for each table whose orphan files were not removed."""
    return [_rewritten(result), *(f"{left}; its orphan files were not removed." for left in result.orphans_left)]


def _rewritten(result: CompactResult) -> str:
    removed = (
        f"{count_text(result.snapshots_expired, 'snapshot')} expired,"
        f" {count_text(result.orphans_removed, 'orphan')} removed."
    )
    if result.skipped:
        return f"{result.table}: not compacted: {result.reason} (--force compacts it nevertheless); {removed}"
    return (
        f"{result.table}: {count_text(result.files_before, 'file')} ({size_text(result.bytes_before)}) to"
        f" {result.files_after:,} ({size_text(result.bytes_after)}); {removed}"
    )
