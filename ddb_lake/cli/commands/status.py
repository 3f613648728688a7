"""`ddb-lake status`: the contents of the lake and its lag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, emf_option, json_option, metrics_file_option, optional_table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.checks import checks_document, print_problems
from ddb_lake.cli.output.metrics import MetricsTarget
from ddb_lake.cli.output.progress import note
from ddb_lake.cli.output.quantities import duration_text, size_text
from ddb_lake.cli.output.tables import print_facts, print_table
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text

if TYPE_CHECKING:
    from ddb_lake.core.schema.misfits import Misfit
    from ddb_lake.pipeline.open_lake import Lake
    from ddb_lake.pipeline.read.check_results import CheckResult
    from ddb_lake.pipeline.read.status import EntityStatus, TableStatus

_SHOWN_MISFITS = 5


@command(
    "status",
    "Show the contents of the lake and its lag.",
    "ddb-lake status",
    "ddb-lake status orders --json",
    "ddb-lake status --metrics-file ddb_lake.prom",
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
    help="Print the status repeatedly until Ctrl-C, by default every 5 seconds.",
)
@metrics_file_option
@emf_option
@json_option
@pass_invocation
def status(
    invocation: Invocation,
    table: str | None,
    every_s: float | None,
    metrics_file: Path | None,
    as_emf: bool,
    as_json: bool,
) -> None:
    """Show rows, lag, watermark, files, bytes, exports, quarantine and checks of TABLE, or of all tables.

    The checks are the last results that Dagster or `ddb-lake check` kept: how many are red, yellow (a warning, or unknown)
    and green, and below the table each one that is not green, the worst first. It fails if a file that the tables name is
    missing, or the branch of a loaded export was dropped, and names the command that restores it. With --json: an object for TABLE; for all
    tables {"tables": [...]}.
    """
    if every_s is not None and as_json:
        raise click.UsageError("--watch and --json exclude each other")
    if every_s is not None and (metrics_file is not None or as_emf):
        raise click.UsageError("--watch exports no metrics: leave out --metrics-file and --emf")
    named = [table] if table else []
    with invocation.lake(*named) as lake:
        names = named or [known.name for known in lake.settings.tables]
        if every_s is None:
            _print_status(lake, names, table, as_json)
            target = MetricsTarget(metrics_file, as_emf)
            if (metrics := target.metrics()) is not None:
                target.export(metrics, lake, names)
        else:
            _watch(lake, names, table, every_s)


def _watch(lake: Lake, names: list[str], table: str | None, every_s: float) -> None:
    """Print the status repeatedly, at the top of a terminal, until Ctrl-C."""
    import time

    try:
        while True:
            click.clear()  # does nothing without a terminal
            echo(f"{lake.now():%Y-%m-%d %H:%M:%S} UTC, every {every_s:g} s; Ctrl-C ends it")
            echo()
            _print_status(lake, names, table, as_json=False)
            time.sleep(every_s)
    except KeyboardInterrupt:
        echo()


def _print_status(lake: Lake, names: list[str], table: str | None, as_json: bool) -> None:
    from ddb_lake.pipeline.read.check_results import check_results, summary_text
    from ddb_lake.pipeline.read.files import check_files
    from ddb_lake.pipeline.read.status import table_status

    for name in names:
        check_files(lake, name)
    statuses = [table_status(lake, name) for name in names]
    checks = {name: check_results(lake, name) for name in names}
    if as_json:
        documents = [status_document(status) | checks_document(checks[status.table]) for status in statuses]
        write_document(documents[0] if table else {"tables": documents})
        return
    if table:
        print_facts([*_facts(statuses[0]), *_follower(lake, table), ("checks", summary_text(checks[table]))])
    else:
        _print_all(statuses, checks)
    from ddb_lake.pipeline.protection import former_values_text

    print_problems(checks)
    for status in statuses:
        if status.changed_rules and not table:
            note(former_values_text(status.table, status.changed_rules))
        if status.source_missing_since_us is not None and not table:
            note(f"{status.table}: {_missing_text(status.source_missing_since_us)}")
        for _, text in () if table else _erasure_facts(status):
            note(f"{status.table}: an erasure {text}")
    if not all(checks.values()):
        note("`ddb-lake check` evaluates the checks of tables without a daemon of Dagster")


def status_document(status: TableStatus) -> dict[str, Any]:
    """The status of a table for `--json`."""
    return asdict(status)


def _print_all(statuses: list[TableStatus], checks: Mapping[str, tuple[CheckResult, ...]]) -> None:
    from ddb_lake.pipeline.read.check_results import summary_text

    headers = ("table", "checks", "rows", "changes", "watermark", "lag", "pending", "quarantined", "files", "size")
    print_table(
        headers,
        [
            (
                status.table,
                summary_text(checks[status.table]),
                status.rows,
                status.changes,
                time_text(status.watermark_us),
                duration_text(status.lag_s),
                status.pending_batches,
                status.quarantined,
                status.files,
                size_text(status.bytes),
            )
            for status in statuses
        ],
    )


def _base_text(status: TableStatus) -> str:
    """The instant of the base; of a scan, from when on the lake has the table's state, and whether it has come that far."""
    if status.scan_until_us is None:
        return time_text(status.base_export_us)
    behind = "; catching up: no later change is applied" if status.catching_up else ""
    return f"a scan until {time_text(status.scan_until_us)}{behind}"


def _follower(lake: Lake, table: str) -> list[tuple[str, Any]]:
    """The process that follows a table; nothing if none does."""
    from ddb_lake.pipeline.follow.leases import working_followers

    lease = working_followers(lake).get(table)
    if lease is None:
        return []
    behind = "" if lease.lag_s is None else f", {duration_text(lease.lag_s)} behind the source"
    return [("follower", f"{lease.holder}{behind}, {time_text(lease.renewed_us, unit='s')}")]


def _missing_text(since_us: int) -> str:
    from ddb_lake.config.inventory import missing_text

    return f"{missing_text('its table', since_us)}; `ddb-lake discover` looks again"


def _facts(status: TableStatus) -> list[tuple[str, Any]]:
    return [
        ("table", status.table),
        ("rows", f"{status.rows:,}"),
        ("columns", status.columns),
        ("change records", f"{status.changes:,}"),
        ("first change", time_text(status.first_change_us)),
        ("last change", time_text(status.last_change_us)),
        ("watermark", time_text(status.watermark_us)),
        ("lag", duration_text(status.lag_s)),
        ("pending batches", status.pending_batches),
        ("base export", _base_text(status)),
        ("snapshot cutoff", time_text(status.horizon_us)),
        ("exports", ", ".join(status.exports) or "-"),
        ("objects ingested", f"{status.objects:,}"),
        ("last commit", time_text(status.last_commit_us)),
        ("quarantined", f"{status.quarantined:,}"),
        (
            "files",
            f"{status.files:,} and {status.delete_files:,} of deletes ({count_text(status.deleted_rows, 'row')})",
        ),
        ("size", size_text(status.bytes)),
        ("gaps", f"{len(status.gaps)} open: `ddb-lake repair {status.table} --gaps`" if status.gaps else "-"),
        *(
            [("source", _missing_text(status.source_missing_since_us))]
            if status.source_missing_since_us is not None
            else []
        ),
        *(("column name", str(collision)) for collision in status.name_collisions),
        *(
            (f"entity {one.entity}", f"{count_text(one.rows, 'row')} in {one.table}{_behind_text(one, status.table)}")
            for one in status.entities
        ),
        *(
            [("former values", f"possible of {', '.join(changed)}: `ddb-lake rebuild {status.table}`")]
            if (changed := status.changed_rules)
            else []
        ),
        *_misfit_facts("values in no column", status.misfits, status.misfits_exact),
        *(
            fact
            for one in status.entities
            if one.misfits != ()
            for fact in _misfit_facts(f"{one.table}: in no column", one.misfits, one.misfits_exact)
        ),
        *(
            ("former entity", f"{former} is not updated: `ddb-lake drop-entity {status.table} NAME` drops it")
            for former in status.former_entities or ()
        ),
        *(("unused column", str(one)) for one in status.unused_columns),
        *_erasure_facts(status),
        ("snapshots", status.snapshots),
        ("snapshot", status.snapshot_id),
    ]


def _erasure_facts(status: TableStatus) -> list[tuple[str, str]]:
    """Lines about the erasures that are not complete."""
    if status.unfinished_erasures is None:
        return [("erasure", "may be unfinished: `ddb-lake doctor` finds out")]
    return [
        (
            "erasure",
            f"of {count_text(one.keys, 'key')} that began {time_text(one.begun_us)} is not complete:"
            f" run `ddb-lake erase {status.table}` again with the same keys",
        )
        for one in status.unfinished_erasures
    ]


def _misfit_facts(label: str, misfits: Sequence[Misfit] | None, exact: bool) -> list[tuple[str, str]]:
    """Lines about the attributes with values that no column holds."""
    if not misfits:
        return [(label, "not counted yet: `ddb-lake doctor` counts them" if misfits is None else "-")]
    lines = [(label, f"{one.text(exact)}; {one.advice}") for one in misfits[:_SHOWN_MISFITS]]
    if len(misfits) > _SHOWN_MISFITS:
        lines.append((label, f"and of {len(misfits) - _SHOWN_MISFITS:,} more attributes: `ddb-lake doctor` names them"))
    return lines


def _behind_text(entity: EntityStatus, table: str) -> str:
    return f"; behind: `ddb-lake sync {table}`" if entity.behind else ""
