"""`ddb-lake quarantine`: what could not be taken in, why, and another try."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.colour import styled
from ddb_lake.cli.command import LakeGroup, json_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.moments import moment_text
from ddb_lake.cli.output import write_document
from ddb_lake.cli.quantities import counted
from ddb_lake.cli.reporting import note, warn
from ddb_lake.cli.tables import printable, show
from ddb_lake.core.times import UNIT_NAMES

if TYPE_CHECKING:
    from ddb_lake.stages.quarantine import QuarantineEntry


@click.group(
    "quarantine",
    cls=LakeGroup,
    short_help="Look at what could not be taken in, and replay it.",
    examples=("ddb-lake quarantine list orders",),
)
def quarantine() -> None:
    """Look at what could not be parsed or validated, and try it again."""


@quarantine.command("list", examples=("ddb-lake quarantine list orders",))
@table_argument
@json_option
@pass_invocation
def list_(invocation: Invocation, table: str, as_json: bool) -> None:
    """Count what is quarantined of TABLE, by reason."""
    from ddb_lake.stages.quarantine import list_quarantine

    with invocation.lake(table) as lake:
        groups = list_quarantine(lake, table)
    if as_json:
        total = sum(group.count for group in groups)
        write_document({"table": table, "count": total, "groups": [asdict(group) for group in groups]})
    elif groups:
        rows = [(g.count, moment_text(g.first_us), moment_text(g.last_us), g.reason) for g in groups]
        show(("count", "first", "last", "reason"), rows)
        note(f"`ddb-lake quarantine show {table}` shows them; once mended, `ddb-lake quarantine replay {table}`.")
    else:
        click.echo(f"{table}: nothing is quarantined.")


@quarantine.command("show", examples=("ddb-lake quarantine show orders --limit 5",))
@table_argument
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Entries at most.")
@json_option
@pass_invocation
def show_(invocation: Invocation, table: str, limit: int, as_json: bool) -> None:
    """Print quarantined bytes of TABLE, with their object, offset and reason.

    With --json the bytes are base64 (`raw`), and text as well where they are UTF-8 (`text`).
    """
    from ddb_lake.stages.quarantine import show_quarantine

    with invocation.lake(table) as lake:
        entries = show_quarantine(lake, table, limit)
    if as_json:
        write_document({"table": table, "entries": [{**asdict(entry), "text": _utf8(entry.raw)} for entry in entries]})
        return
    for entry in entries:
        _show_entry(entry)
    if not entries:
        click.echo(f"{table}: nothing is quarantined.")


@quarantine.command(
    "replay",
    examples=(
        "ddb-lake quarantine replay orders",
        "ddb-lake quarantine replay orders --from mended.json",
        "ddb-lake quarantine replay orders --time-unit seconds",
    ),
)
@table_argument
@click.option(
    "--from",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Entries with their bytes mended, as `quarantine show --json` prints them; only these are tried.",
)
@click.option(
    "--time-unit",
    type=click.Choice(tuple(UNIT_NAMES)),
    help="Unit of the times that are impossible in their declared unit.",
)
@json_option
@pass_invocation
def replay(invocation: Invocation, table: str, file: Path | None, time_unit: str | None, as_json: bool) -> None:
    """Try again to take in what is quarantined of TABLE; what succeeds leaves quarantine.

    Mend the configuration first (a key, a schema), or the objects, or the entries themselves:

    \b
    ddb-lake quarantine show orders --json --limit 1000 > mended.json
    $EDITOR mended.json
    ddb-lake quarantine replay orders --from mended.json
    """
    from ddb_lake.core.mended import parse_mended
    from ddb_lake.stages.quarantine import replay_quarantine

    mended = None if file is None else parse_mended(file.read_bytes(), str(file))
    with invocation.lake(table) as lake:
        result = replay_quarantine(lake, table, mended, UNIT_NAMES[time_unit] if time_unit else None)
    if as_json:
        write_document({"table": table, **asdict(result)})
    else:
        done = counted(result.replayed, "record left quarantine", "records left quarantine")
        click.echo(f"{table}: {done}: {result.new:,} new, {counted(result.duplicates, 'duplicate')}.")
        if result.rewritten:
            click.echo(f"{table}: {counted(result.rewritten, 'entry', 'entries')} left: the object was rewritten.")
    if result.absent:
        note(f"{table}: {counted(result.absent, 'entry', 'entries')} of the file are not in quarantine (any more)")
    if result.still_quarantined:
        warn(f"{table}: {counted(result.still_quarantined, 'record')} still quarantined")


def _show_entry(entry: QuarantineEntry) -> None:
    click.echo(styled(f"{entry.object} at byte {entry.offset:,}", bold=True))
    click.echo(f"  reason       {printable(entry.reason)}")
    click.echo(f"  quarantined  {moment_text(entry.quarantined_us)}, {counted(len(entry.raw), 'byte')}")
    click.echo(f"  {printable(entry.raw.decode('utf-8', 'backslashreplace'))}\n")


def _utf8(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
