"""`ddb-lake quarantine`: records that could not be ingested: list, show, replay, discard."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import LakeGroup, json_option, options_object, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note, warn
from ddb_lake.cli.output.tables import print_table
from ddb_lake.cli.output.terminal import Styled, echo
from ddb_lake.cli.output.writers import write_document, write_lines
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.values.times import UNIT_NAMES

if TYPE_CHECKING:
    from ddb_lake.pipeline.read.quarantine import QuarantineEntry

SHOWN_CHARACTERS = 2_000
SHOWN_BYTES = 64
"""What `quarantine show` prints of an entry: characters of a text, or bytes in hexadecimal."""


@click.group(
    "quarantine",
    cls=LakeGroup,
    short_help="Show records that could not be ingested, and replay them.",
    examples=("ddb-lake quarantine list orders",),
)
def quarantine() -> None:
    """Show records that could not be parsed or validated, and ingest them again."""


@quarantine.command("list", examples=("ddb-lake quarantine list orders",))
@table_argument
@click.option("--discarded", is_flag=True, help="List discarded entries with user and reason, instead of open ones.")
@json_option
@pass_invocation
def list_(invocation: Invocation, table: str, discarded: bool, as_json: bool) -> None:
    """Count the quarantined entries of TABLE, by reason."""
    from ddb_lake.pipeline.read.quarantine import list_quarantine

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
        note(
            f"`ddb-lake quarantine show {table}` shows them; when they are corrected, run `ddb-lake quarantine replay {table}`."
        )
    else:
        echo(f"{table}: nothing is quarantined.")


def _list_discarded(invocation: Invocation, table: str, as_json: bool) -> None:
    from ddb_lake.pipeline.read.quarantine import list_discarded

    with invocation.lake(table) as lake:
        groups = list_discarded(lake, table)
    if as_json:
        total = sum(group.count for group in groups)
        write_document({"table": table, "count": total, "discarded": [asdict(group) for group in groups]})
    elif groups:
        rows = [(g.count, time_text(g.discarded_us), g.discarded_by, g.why, g.reason) for g in groups]
        print_table(("count", "discarded", "by", "why", "reason"), rows)
    else:
        echo(f"{table}: nothing was discarded.")


@quarantine.command("show", examples=("ddb-lake quarantine show orders --limit 5",))
@table_argument
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Entries at most.")
@click.option("--raw", "as_raw", is_flag=True, help="Write the complete bytes alone, each entry ended by a newline.")
@json_option
@pass_invocation
def show_(invocation: Invocation, table: str, limit: int, as_raw: bool, as_json: bool) -> None:
    """Print quarantined bytes of TABLE, with their object, offset and reason.

    Long texts are cut, and bytes that are no text are shown in hexadecimal, also cut; --raw writes all of them.
    With --json, `raw` has the bytes in base64; `text` has them as text if they are UTF-8.
    """
    if as_raw and as_json:
        raise click.UsageError("--raw and --json exclude each other")
    from ddb_lake.pipeline.read.quarantine import show_quarantine

    with invocation.lake(table) as lake:
        entries = show_quarantine(lake, table, limit)
    if as_json:
        write_document({"table": table, "entries": [{**asdict(entry), "text": _utf8(entry.raw)} for entry in entries]})
        return
    if as_raw:
        write_lines(entry.raw for entry in entries)
        return
    for entry in entries:
        _print_entry(entry)
    if not entries:
        echo(f"{table}: nothing is quarantined.")


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
    help="Corrected entries, as `quarantine show --json` prints them; only these are replayed.",
)
@click.option(
    "--time-unit",
    type=click.Choice(tuple(UNIT_NAMES)),
    help="Unit of times that are impossible in their declared unit.",
)
@json_option
@pass_invocation
def replay(invocation: Invocation, table: str, file: Path | None, time_unit: str | None, as_json: bool) -> None:
    """Ingest the quarantined entries of TABLE again; those that succeed leave quarantine.

    Correct the configuration first (a key, a schema), or the objects, or the entries themselves:

    \b
    ddb-lake quarantine show orders --json --limit 1000 > corrected.json
    $EDITOR corrected.json
    ddb-lake quarantine replay orders --from corrected.json
    """
    from ddb_lake.core.operations.quarantine_file import parse_corrected
    from ddb_lake.pipeline.maintain.quarantine import replay_quarantine

    corrected = None if file is None else parse_corrected(file.read_bytes(), str(file))
    with invocation.lake(table) as lake:
        result = replay_quarantine(lake, table, corrected, UNIT_NAMES[time_unit] if time_unit else None)
    if as_json:
        write_document({"table": table, **asdict(result)})
    else:
        replayed = count_text(result.replayed, "record taken out of quarantine", "records taken out of quarantine")
        echo(f"{table}: {replayed}: {result.new:,} new, {count_text(result.duplicates, 'duplicate')}.")
        if result.rewritten:
            echo(f"{table}: {count_text(result.rewritten, 'entry', 'entries')} removed: the object was rewritten.")
    if result.absent:
        note(f"{table}: {count_text(result.absent, 'entry', 'entries')} of the file are not in quarantine")
    if result.still_quarantined:
        warn(
            f"{table}: {count_text(result.still_quarantined, 'record')} still quarantined;"
            f" see `ddb-lake quarantine show {table}`"
        )


@dataclass(frozen=True, slots=True)
class DiscardOptions:
    """Which entries to discard, why, and the user who does it."""

    ids: tuple[str, ...]
    objects: tuple[str, ...]
    reasons: tuple[str, ...]
    why: str
    by: str | None


@quarantine.command(
    "discard",
    examples=(
        "ddb-lake quarantine discard orders --object s3://landing/test/1.gz --why 'a load test'",
        "ddb-lake quarantine discard orders --id 1f3a0c… --by ann --why 'sent again by hand'",
    ),
)
@table_argument
@click.option("--id", "ids", multiple=True, metavar="ID", help="An entry, by its `quarantine_id` in `show --json`.")
@click.option("--object", "objects", multiple=True, metavar="URI", help="All open entries of an object.")
@click.option(
    "--reason", "reasons", multiple=True, metavar="TEXT", help="All open entries of a reason, as `list` shows it."
)
@click.option("--why", required=True, metavar="TEXT", help="The reason for discarding them; stored.")
@click.option("--by", metavar="NAME", help="The user to store; default: the user of the operating system.")
@options_object(DiscardOptions)
@json_option
@pass_invocation
def discard(invocation: Invocation, table: str, options: DiscardOptions, as_json: bool) -> None:
    """Discard quarantined entries of TABLE: they no longer count as open, and a replay does not read them.

    Nothing is deleted: the entries stay in quarantine, with the user, the time and the reason. The exit status is 1 if
    no open entry matches.
    """
    if not (options.ids or options.objects or options.reasons):
        raise click.UsageError("name the entries: --id, --object or --reason")
    if not options.why.strip():
        raise click.UsageError("--why is empty: give the reason for discarding the entries")
    import getpass

    from ddb_lake.pipeline.maintain.quarantine import EntrySelection, discard_quarantine

    user = options.by or getpass.getuser()
    chosen = EntrySelection(options.ids, options.objects, options.reasons)
    with invocation.lake(table) as lake:
        count = discard_quarantine(lake, table, chosen, user, options.why)
    if as_json:
        write_document({"table": table, "discarded": count, "by": user, "why": options.why})
    else:
        echo(f"{table}: {count_text(count, 'entry', 'entries')} discarded.")
    if not count:
        warn(f"{table}: no open entry matches; `ddb-lake quarantine list {table}` shows the reasons")
        click.get_current_context().exit(1)


def _print_entry(entry: QuarantineEntry) -> None:
    echo(Styled(f"{entry.object} at byte {entry.offset:,}", bold=True))
    echo(f"  reason       {entry.reason}")
    echo(f"  quarantined  {time_text(entry.quarantined_us)}, {count_text(len(entry.raw), 'byte')}")
    echo(f"  {_shown(entry.raw)}")
    echo()


def _shown(raw: bytes) -> str:
    """The beginning of an entry: its text, or its bytes in hexadecimal if they are no text."""
    text = _utf8(raw)
    if text is not None:
        return _cut(text, len(text), SHOWN_CHARACTERS, "characters")
    return _cut(raw[: SHOWN_BYTES + 1].hex(" "), len(raw), SHOWN_BYTES, "bytes", 3)


def _cut(text: str, length: int, most: int, what: str, width: int = 1) -> str:
    """A text of `length` parts with `width` characters each, cut after `most` parts."""
    if length <= most:
        return text
    return f"{text[: most * width].rstrip()}… (the first {most:,} of {length:,} {what}; --raw writes all)"


def _utf8(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
