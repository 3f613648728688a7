"""`ddb-lake erase`: remove items from every file of a lake, by their keys."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddb_lake.cli.command import command, json_option, options_object, table_argument
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.progress import note, warn
from ddb_lake.cli.output.quantities import duration_text
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.errors import UsageError

if TYPE_CHECKING:
    from ddb_lake.core.values.change_record import Item
    from ddb_lake.pipeline.maintain.erasure import EraseResult

_COMMAND = "ddb-lake erase"
_NOTHING = (
    "nothing of these keys was found. If they were not erased before, compare their values and types with the table:"
    ' `{"id": 7}` is a number, `{"id": "7"}` a text'
)


@dataclass(frozen=True, slots=True)
class EraseOptions:
    """The options of `erase`."""

    key: tuple[str, ...]
    keys: Path | None
    allow_recreation: bool
    landing: bool
    yes: bool
    as_json: bool


@command(
    "erase",
    "Remove items from every file of the lake.",
    """ddb-lake erase orders --key '{"order_id": "17"}'""",
    "ddb-lake erase orders --keys keys.jsonl --yes",
    """ddb-lake erase orders --key '{"order_id": "17"}' --landing --allow-recreation""",
)
@table_argument
@click.option(
    "--key", multiple=True, metavar="JSON", help="A key, as plain JSON or as DynamoDB JSON. Several are possible."
)
@click.option(
    "--keys",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A file with one key in each line.",
)
@click.option(
    "--allow-recreation", is_flag=True, help="Accept changes of the keys from after the erasure; default: refuse."
)
@click.option("--landing", is_flag=True, help="Also rewrite landed objects and exports that AWS services wrote.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@options_object(EraseOptions)
@pass_invocation
def erase(invocation: Invocation, table: str, options: EraseOptions) -> None:
    """Erase items of TABLE by their keys: current items, history, quarantine, exports, kept days, and landed objects of the lake.

    The command prints what would be erased and asks for confirmation. At the end it reads every file again. It reports what it
    cannot reach. After an interruption, run it again with the same keys.

    Earlier Iceberg snapshots of the table are removed. The item is not deleted from DynamoDB.
    """
    from ddb_lake.mysql.erase import erase_with_replica
    from ddb_lake.pipeline.maintain.erase import unfinished
    from ddb_lake.pipeline.maintain.erasure import EraseRequest

    request = EraseRequest(_keys(options), options.allow_recreation, options.landing, _COMMAND)
    with invocation.lake(table) as lake:
        for begun_us in unfinished(lake, table):
            warn(
                f"{table}: an erasure that began {time_text(begun_us)} is not complete; run it again with the same keys"
            )
        if not options.yes:
            _print_result(
                erase_with_replica(lake, table, request, dry=True), options.as_json and not sys.stdin.isatty()
            )
            if not sys.stdin.isatty():
                note("nothing was changed: stdin is no terminal to confirm on. Add --yes to erase")
                return
            click.confirm("Erase them?", abort=True, err=True)
        result = erase_with_replica(lake, table, request)
    _print_result(result, options.as_json)


def _keys(options: EraseOptions) -> list[Item]:
    texts = [(f"--key {number}", text) for number, text in enumerate(options.key, start=1)]
    if options.keys is not None:
        lines = _lines(options.keys)
        texts += [
            (f"{options.keys}, line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()
        ]
    if not texts:
        raise click.UsageError("name the items by --key or --keys")
    return [_key(place, text) for place, text in texts]


def _lines(path: Path) -> list[str]:
    """The lines of a file of keys. Other separators than a line feed may be within a text of JSON, where they are allowed."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: no UTF-8 text", hint="write one key as JSON in each line") from None


def _key(place: str, text: str) -> Item:
    """A key as DynamoDB JSON. Raises UsageError, which does not quote the text: it may have a person's data."""
    try:
        value = json.loads(text, parse_float=str, parse_int=str, object_pairs_hook=partial(_members, place))
    except ValueError:
        raise UsageError(f"{place}: no JSON", hint="""write a key as '{"name": "value"}'""") from None
    if not isinstance(value, dict):
        raise UsageError(f"{place}: no JSON object", hint="""write a key as '{"name": "value"}'""")
    quoted = json.loads(text)
    return {name: _attribute(member, quoted[name]) for name, member in value.items()}


def _members(place: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of a JSON object. Raises UsageError if a name occurs twice: one of two keys would not be erased."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise UsageError(f"{place}: a name occurs twice", hint="write each key by itself")
    return members


def _attribute(text: Any, plain: Any) -> Any:
    if isinstance(plain, dict):
        return plain
    return {"S": plain} if isinstance(plain, str) else {"N": text}


def _print_result(result: EraseResult, as_json: bool) -> None:
    if result.is_nothing:
        warn(f"{result.table}: {_NOTHING}")
    if as_json:
        write_document(asdict(result))
        return
    verb = "would be erased" if result.dry else "erased"
    keys = count_text(result.keys, "key")
    proof = (
        "" if result.dry else f" {count_text(result.files_read, 'file')} read again, {duration_text(result.seconds)}."
    )
    echo(f"{result.table}: {keys} {verb}.{proof}")
    for place, count in sorted(result.removed.items()):
        if count:
            echo(f"  {place}: {count:,}")
    for searched_for in dict.fromkeys(one.searched_for for one in result.proof):
        files = [one for one in result.proof if one.searched_for == searched_for]
        places = ", ".join(f"{one.place} {one.files:,}" for one in files)
        echo(f"  proof: {count_text(sum(one.files for one in files), 'file')} searched for {searched_for}: {places}")
    if not result.dry:
        echo("  proof: other values of the items were not searched for, because other items may have the same ones")
    for what in result.not_reached:
        warn(f"{result.table}: not reached: {what}")
