"""`ddb-lake quarantine`: what could not be taken in, why, and another try."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import LakeGroup, json_option, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.colour import styled
from ddb_lake.cli.output.progress import note, warn
from ddb_lake.cli.output.quantities import count_text
from ddb_lake.cli.output.tables import print_table, printable
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.values.times import UNIT_NAMES

if TYPE_CHECKING:
    from ddb_lake.pipeline.maintain.quarantine import QuarantineEntry


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
@click.option("--discarded", is_flag=True, help="What was discarded, by whom and why, instead of what is open.")
@json_option
@pass_invocation
def list_(invocation: Invocation, table: str, discarded: bool, as_json: bool) -> None:
    """Count what is quarantined of TABLE, by reason."""
    from ddb_lake.pipeline.maintain.quarantine import list_quarantine

    if discarded:
        _list_discarded(invocation, table, as_json)
        return
    with invocation.lake(table) as lake:
        groups = list_quarantine(lake, table)
    if as_json:
        total = sum(group.count for group in groups)
        write_document({"table": table, "count": total, "groups": [asdict(group) for group in groups]})
    elif groups:
        rows = [(g.count, time_text(g.first_us), time_text(g.last_us), g.reason) for g in groups]
        print_table(("count", "first", "last", "reason"), rows)
        note(f"`ddb-lake quarantine show {table}` shows them; once mended, `ddb-lake quarantine replay {table}`.")
    else:
        click.echo(f"{table}: nothing is quarantined.")


def _list_discarded(invocation: Invocation, table: str, as_json: bool) -> None:
    from ddb_lake.pipeline.maintain.quarantine import list_discarded

    with invocation.lake(table) as lake:
        found = list_discarded(lake, table)
    if as_json:
        groups = [asdict(one) for one in found]
        write_document({"table": table, "count": sum(one.count for one in found), "discarded": groups})
    elif found:
        rows = [(one.count, time_text(one.discarded_us), one.discarded_by, one.why, one.reason) for one in found]
        print_table(("count", "discarded", "by", "why", "reason"), rows)
    else:
        click.echo(f"{table}: nothing was discarded.")


@quarantine.command("show", examples=("ddb-lake quarantine show orders --limit 5",))
@table_argument
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Entries at most.")
@json_option
@pass_invocation
def show_(invocation: Invocation, table: str, limit: int, as_json: bool) -> None:
    """Print quarantined bytes of TABLE, with their object, offset and reason.

    With --json the bytes are base64 (`raw`), and text as well where they are UTF-8 (`text`).
    """
    from ddb_lake.pipeline.maintain.quarantine import show_quarantine

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
        "ddb-lake quarantine replay orders --from corrected.json",
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
    help="Unit in which to read times that are impossible in their declared unit.",
)
@json_option
@pass_invocation
def replay(invocation: Invocation, table: str, file: Path | None, time_unit: str | None, as_json: bool) -> None:
    """Try again to take in what is quarantined of TABLE; what succeeds leaves quarantine.

    Mend the configuration first (a key, a schema), or the objects, or the entries themselves:

    \b
    ddb-lake quarantine show orders --json --limit 1000 > corrected.json
    $EDITOR corrected.json
    ddb-lake quarantine replay orders --from corrected.json
    """
    from ddb_lake.core.operations.quarantine_file import parse_mended
    from ddb_lake.pipeline.maintain.quarantine import replay_quarantine

    mended = None if file is None else parse_mended(file.read_bytes(), str(file))
    with invocation.lake(table) as lake:
        result = replay_quarantine(lake, table, mended, UNIT_NAMES[time_unit] if time_unit else None)
    if as_json:
        write_document({"table": table, **asdict(result)})
    else:
        done = count_text(result.replayed, "record left quarantine", "records left quarantine")
        click.echo(f"{table}: {done}: {result.new:,} new, {count_text(result.duplicates, 'duplicate')}.")
        if result.rewritten:
            click.echo(f"{table}: {count_text(result.rewritten, 'entry', 'entries')} left: the object was rewritten.")
    if result.absent:
        note(f"{table}: {count_text(result.absent, 'entry', 'entries')} of the file are not in quarantine (any more)")
    if result.still_quarantined:
        warn(f"{table}: {count_text(result.still_quarantined, 'record')} still quarantined")


@quarantine.command(
    "discard",
    examples=(
        "ddb-lake quarantine discard orders --object s3://landing/test/1.gz --why 'a load test'",
        "ddb-lake quarantine discard orders --id 1f3a0c… --by ann --why 'sent again by hand'",
    ),
)
@table_argument
@click.option("--id", "ids", multiple=True, metavar="ID", help="An entry, by the `quarantine_id` of `show --json`.")
@click.option("--object", "objects", multiple=True, metavar="URI", help="An object: all its open entries.")
@click.option(
    "--reason", "reasons", multiple=True, metavar="TEXT", help="A reason, as `list` shows it: all its open entries."
)
@click.option("--why", required=True, metavar="TEXT", help="Why they are discarded.")
@click.option("--by", metavar="NAME", help="Who discards them; default: the user of the operating system.")
@json_option
@pass_invocation
def discard(
    invocation: Invocation,
    table: str,
    ids: tuple[str, ...],
    objects: tuple[str, ...],
    reasons: tuple[str, ...],
    why: str,
    by: str | None,
    as_json: bool,
) -> None:
    """Discard quarantined entries of TABLE: they no longer count as open, and a replay does not read them.

    Nothing is deleted: the entries stay in the quarantine with the user, the time and the reason. The exit status is 1 if
    no open entry matches.
    """
    if not (ids or objects or reasons):
        raise click.UsageError("name the entries: --id, --object or --reason")
    if not why.strip():
        raise click.UsageError("--why: say why they are discarded")
    import getpass

    from ddb_lake.pipeline.maintain.quarantine import Chosen, discard_quarantine

    who = by or getpass.getuser()
    with invocation.lake(table) as lake:
        count = discard_quarantine(lake, table, Chosen(ids, objects, reasons), who, why)
    if as_json:
        write_document({"table": table, "discarded": count, "by": who, "why": why})
    else:
        click.echo(f"{table}: {count_text(count, 'entry', 'entries')} discarded.")
    if not count:
        warn(f"{table}: no open entry matches; `ddb-lake quarantine list {table}` shows the reasons")
        click.get_current_context().exit(1)


def _show_entry(entry: QuarantineEntry) -> None:
    click.echo(styled(f"{entry.object} at byte {entry.offset:,}", bold=True))
    click.echo(f"  reason       {printable(entry.reason)}")
    click.echo(f"  quarantined  {time_text(entry.quarantined_us)}, {count_text(len(entry.raw), 'byte')}")
    click.echo(f"  {printable(entry.raw.decode('utf-8', 'backslashreplace'))}\n")


def _utf8(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
