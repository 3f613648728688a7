"""`ddb-lake init`: a starter configuration, for a table that is named, or for what lies at a location."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddb_lake.cli.command import command, json_option, options_object
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.errors import DdbLakeError, UsageError

if TYPE_CHECKING:
    from ddb_lake.core.schema.entity_candidates import EntityCandidate
    from ddb_lake.pipeline.discovery import Discovery, FoundTable

DEFAULT_PATH = Path("ddb_lake.yaml")
SAMPLE_FOLDER = Path("sample")
SHOWN_ROWS = 5

_CONFIGURATIONS = (".yaml", ".yml")
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./:\-]*")
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none"}

_HEAD = """\
# A lake of Amazon DynamoDB tables: read by `ddb-lake` and by Dagster.
type: ddb_lake.DynamoDBLakeComponent
attributes:
  # A folder, file:// or s3://bucket/prefix. Values from the environment: "{{{{ env.DDB_LAKE_WAREHOUSE }}}}"
  warehouse: {warehouse}
  # catalog: {{type: glue}}   # default: SQLite beside a local warehouse, glue for one on S3; or rest
  tables:
"""
_SOURCE = "      source: {{region: {region}}}\n"
_SOURCE_HINT = "      # source: {region: eu-west-1, role_arn: ...}   # default: the standard AWS variables\n"
_EXPORT = "      export: {{bucket: {bucket}{prefix}}}   # and: prefix, schedule, bucket_owner, kms_key_id\n"
_EXPORT_HINT = '      # export: {bucket: my-exports, prefix: orders, schedule: "0 3 * * 0"}   # for full exports\n'
_CHANGES = "      changes: {{uri: {uri}, partitions: {{start: {first_day}}}}}   # in Dagster, the partitions begin on this day\n"
_CHANGES_HINT = "      # changes: {uri: s3://my-landing/orders/}   # where Firehose delivers the change records\n"
_MATCH = """\
    - match: {match}   # `*` is any text, {{name}} the part that is the name in the lake; `ddb-lake discover` lists the tables
      # match_tags: {{lake: "yes"}}
      # match_except: ["*-tmp"]
"""
_MATCH_EXPORT_HINT = '      # export: {bucket: my-exports, prefix: "{name}"}   # for full exports\n'
_MATCH_CHANGES_HINT = '      # changes: {streams: true}   # or {uri: "s3://my-landing/{name}/"}\n'
_TAIL = """\
      # columns: {amount: "decimal(38,2)", payload: json}
      # nested: flatten                  # or json
      # schema_evolution: add_columns    # or rescue, fail
      # ttl_deletes: apply               # or keep
"""


@dataclass(frozen=True, slots=True)
class InitOptions:
    """The options of the command."""

    table: str | None
    match: str | None
    key: tuple[str, ...]
    warehouse: str
    export_bucket: str | None
    changes_uri: str | None
    sample: bool
    discover: bool
    force: bool


@dataclass(frozen=True, slots=True)
class StarterTable:
    """What a starter configuration states of a table, or of the tables whose names match a pattern.

    Attributes:
        name: the name of the table, or the pattern if `is_pattern`.
        key: its key; empty if it is left out.
        key_note: the comment beside it.
        region: the table's Region; None if it is left out.
        export_bucket, export_prefix: where full exports are requested; None, or empty, if they are left out.
        changes_uri: where its changes land; None if it is left out.
        first_day: the day (UTC) with which the partitions of its changes begin.
        exports: what the command that loads the newest finished export names: the location with it alone, else its manifest;
            None if there is none yet.
        entities: the proposed entities.
        sampled: the number of items from whose keys they are proposed.
        is_pattern: whether it is an entry `match`, which has neither key nor entities.
    """

    name: str
    key: tuple[str, ...]
    key_note: str = "partition key, then sort key"
    region: str | None = None
    export_bucket: str | None = None
    export_prefix: str = ""
    changes_uri: str | None = None
    first_day: date | None = None
    exports: str | None = None
    entities: tuple[EntityCandidate, ...] = ()
    sampled: int = 0
    is_pattern: bool = False


@command(
    "init",
    "Write a starter configuration.",
    "ddb-lake init s3://my-exports/orders s3://my-landing/orders/",
    "ddb-lake init s3://my-exports/app --discover",
    "ddb-lake init --sample",
    "ddb-lake init --table orders --key customer --key order_id --export-bucket my-exports"
    " --changes-uri s3://my-landing/orders/",
    "ddb-lake init --match 'prod-{name}' --changes-uri 's3://my-landing/{name}/'",
)
@click.argument("places", nargs=-1, metavar="[PATH] [LOCATION]...")
@click.option("--table", help="The DynamoDB table's name.")
@click.option(
    "--match",
    metavar="PATTERN",
    help="In place of --table: all tables with such a name, also later ones; {name} is the part that is the name in the lake.",
)
@click.option(
    "--key",
    multiple=True,
    help="A key attribute: partition key first, then sort key (or both, a comma between). Default: as DescribeTable returns it.",
)
@click.option("--warehouse", default="lake", show_default=True, help="Where the lake is: a folder, file:// or s3://.")
@click.option("--export-bucket", help="The bucket for DynamoDB's exports.")
@click.option("--changes-uri", help="Where Firehose delivers the change records: a folder or s3:// prefix.")
@click.option("--sample", is_flag=True, help="Write a small export and changes to the folder `sample`, and use them.")
@click.option("--discover", is_flag=True, help="Propose the entities of a single-table design, from sampled keys.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
@options_object(InitOptions)
def init(places: tuple[str, ...], options: InitOptions, as_json: bool) -> None:
    """Write a starter configuration to PATH (default: ddb_lake.yaml) and print the next commands.

    A LOCATION is a folder or an s3:// prefix with exports or landed changes. Their tables, keys, prefixes and compression are found by
    opening a few objects, and the first rows are shown as they will be in the lake.
    """
    path, locations = _divided(places)
    if path.exists() and not options.force:
        raise UsageError(f"{path} exists already", hint="--force replaces it")
    if options.match is not None:
        _check_match(options, locations)
    if options.sample:
        locations = [*locations, *_sample_locations(options)]
    if options.discover and not locations:
        raise UsageError(
            "--discover reads keys, and no location is given",
            hint="name one: `ddb-lake init LOCATION --discover`",
        )
    found = _discovered(locations) if locations else None
    tables = (
        [_named_table(options) if options.match is None else _pattern_entry(options.match, options)]
        if found is None
        else [_found_table(table, options, found) for table in _chosen(found, options)]
    )
    text = starter(options.warehouse, tables)
    _check(text, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if options.match is None:
        steps = [step for table in tables for step in _next_steps(path, table)]
        steps = [_doctor_step(path), *steps, *([_query_step(path)] if options.sample else [])]
    else:
        steps = [
            (f"ddb-lake discover{_option(path)}", "the tables that have such a name"),
            _doctor_step(path),
            (f"ddb-lake sync{_option(path)}", "all that is due, of each table"),
        ]
    if as_json:
        write_document(_document(path, tables, found, [step for step, _ in steps]))
        return
    if found is not None:
        for table, written in zip(_chosen(found, options), tables, strict=True):
            _print_found(table, written)
        for location in found.cut:
            echo(f"Note: {location} has more objects; the first ones were looked at.")
    echo(f"Wrote {path}.")
    echo(_instruction(tables, named=options.table is not None or found is not None))
    room = max(len(step) for step, _ in steps)
    for step, what in steps:
        echo(f"  {step:<{room}}   # {what}")


def starter(warehouse: str, tables: Sequence[StarterTable]) -> str:
    """The text of a starter configuration."""
    return _HEAD.format(warehouse=_scalar(warehouse)) + "".join(map(_table_text, tables))


def _table_text(table: StarterTable) -> str:
    key = f"[{', '.join(map(_scalar, table.key))}]"
    key_line = (
        f"key: {key}   # {table.key_note}" if table.key else "# key: [...]   # read from the table if it is left out"
    )
    prefix = f", prefix: {_scalar(table.export_prefix)}" if table.export_prefix else ""
    head = f"    - name: {_scalar(table.name)}\n      {key_line}\n" + _entities_text(table)
    export_hint, changes_hint = _EXPORT_HINT, _CHANGES_HINT
    if table.is_pattern:
        head = _MATCH.format(match=_scalar(table.name))
        export_hint, changes_hint = _MATCH_EXPORT_HINT, _MATCH_CHANGES_HINT
    return (
        head
        + (_EXPORT.format(bucket=_scalar(table.export_bucket), prefix=prefix) if table.export_bucket else export_hint)
        + (_changes_text(table.changes_uri, table.first_day) if table.changes_uri else changes_hint)
        + (_SOURCE.format(region=_scalar(table.region)) if table.region else _SOURCE_HINT)
        + _TAIL
    )


def _changes_text(uri: str, first_day: date | None) -> str:
    return _CHANGES.format(uri=_scalar(uri), first_day=first_day or datetime.now(UTC).date())


def _entities_text(table: StarterTable) -> str:
    """The proposed entities in YAML; empty without any."""
    if not table.entities:
        return ""
    lines = [f"      entities:   # proposed from the keys of {count_text(table.sampled, 'sampled item')}: check them\n"]
    for one in table.entities:
        parts = [f"name: {one.name}"]
        parts += [f"key: {{{_mapping(one.key)}}}"] if one.key else []
        parts += [f"columns: {{{_mapping(one.columns)}}}"] if one.columns else []
        lines.append(f"        - {{{', '.join(parts)}}}   # {count_text(one.items, 'sampled item')}\n")
    return "".join(lines)


def _mapping(values: Mapping[str, str]) -> str:
    return ", ".join(f"{_scalar(name)}: {_scalar(value)}" for name, value in values.items())


# --- what the command line names


def _divided(places: Sequence[str]) -> tuple[Path, list[str]]:
    """The configuration's path, and the locations. Raises UsageError for a name that is neither."""
    locations = [place for place in places if "://" in place or Path(place).is_dir()]
    others = [place for place in places if place not in locations]
    unclear = next((place for place in others[1:] or others if Path(place).suffix not in _CONFIGURATIONS), None)
    if unclear is not None:
        raise UsageError(
            f"{unclear} is no folder", hint="name an existing folder or s3:// prefix; PATH ends with .yaml or .yml"
        )
    if len(others) > 1:
        raise UsageError("several paths for one configuration", found=", ".join(others), hint="name one")
    return Path(others[0]) if others else DEFAULT_PATH, locations


def _sample_locations(options: InitOptions) -> list[str]:
    """The locations of the sample, which is written first. Raises UsageError if its folder exists."""
    from ddb_lake.cli.sample import EXPORTS, LANDING, write_sample

    if SAMPLE_FOLDER.exists() and not options.force:
        raise UsageError(f"the folder {SAMPLE_FOLDER} exists already", hint="--force writes the sample into it")
    write_sample(SAMPLE_FOLDER)
    return [f"{SAMPLE_FOLDER}/{EXPORTS}", f"{SAMPLE_FOLDER}/{LANDING}"]


def _sample_key() -> tuple[str, ...]:
    from ddb_lake.cli.sample import KEY

    return KEY


def _named_table(options: InitOptions) -> StarterTable:
    name = "orders" if options.table is None else options.table
    key = _given_key(options)
    if not key:
        key = ("customer", "order_id") if options.table is None else _source_key(options.table, None)
    return StarterTable(name, key, export_bucket=options.export_bucket, changes_uri=options.changes_uri)


def _check_match(options: InitOptions, locations: Sequence[str]) -> None:
    """Raise UsageError for --match with what is of one table, or of what lies at a location."""
    others = {
        "--table": options.table,
        "--key": options.key,
        "--sample": options.sample,
        "--discover": options.discover,
        "a location": locations,
    }
    given = [name for name, value in others.items() if value]
    if given:
        raise UsageError(
            f"--match and {given[0]}", hint="--match is for tables whose names and keys `ddb-lake discover` finds"
        )


def _pattern_entry(pattern: str, options: InitOptions) -> StarterTable:
    return StarterTable(
        pattern,
        (),
        export_bucket=options.export_bucket,
        export_prefix="{name}",
        changes_uri=options.changes_uri,
        is_pattern=True,
    )


def _given_key(options: InitOptions) -> tuple[str, ...]:
    return tuple(attribute for text in options.key for attribute in _attributes(text))


def _attributes(text: str) -> list[str]:
    """The attributes of one `--key`. Raises UsageError for an empty name."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"--key {text!r}: an attribute without a name; expected PARTITION or PARTITION,SORT")
    return names


def _source_key(table: str, region: str | None) -> tuple[str, ...]:
    """The key attributes of the DynamoDB table; empty, with a note, if DescribeTable fails."""
    from ddb_lake.aws.diagnostics import credentials_source, table_state
    from ddb_lake.config import parse_settings

    source = {"source": {"region": region}} if region else {}
    settings = parse_settings({"warehouse": "lake", "tables": [{"name": table, **source}]}, "init")
    try:
        if credentials_source() is None:
            return ()
        return table_state(settings.tables[0]).key
    except DdbLakeError as error:
        echo(f"Note: the key of {table} could not be read from DynamoDB: {error}", err=True)
        return ()


# --- what lies at the locations


def _discovered(locations: Sequence[str]) -> Discovery:
    from ddb_lake.aws.objects import ObjectStore
    from ddb_lake.pipeline.discovery import discover

    return discover(ObjectStore(), locations)


def _chosen(found: Discovery, options: InitOptions) -> list[FoundTable]:
    """The tables to configure. Raises UsageError if `--table` is not among them, or a name is unknown."""
    if options.table is None:
        return list(found.tables)
    chosen = [table for table in found.tables if table.name in (options.table, None)]
    if not chosen:
        names = ", ".join(str(table.name) for table in found.tables)
        raise UsageError(f"there is no export and no change record of {options.table}", found=names)
    return chosen


def _first_day(found: Discovery) -> date | None:
    """The day of the earliest listed change object. It is that of all tables: tables with the same partitions share runs in Dagster."""
    hours = [landing.first_hour for landing in found.landings if landing.first_hour is not None]
    return min(hours).date() if hours else None


def _newest_export(table: FoundTable, found: Discovery) -> str | None:
    """Where `load` finds the newest export of a table: its location, or its manifest if other exports are there, of any table."""
    if not table.exports:
        return None
    newest = table.exports[-1]
    below = [export for one in found.tables for export in one.exports if export.location == newest.location]
    return _relative(newest.location if len(below) == 1 else newest.export.uri)


def _found_table(table: FoundTable, options: InitOptions, found: Discovery) -> StarterTable:
    name = table.name or options.table
    if name is None:
        raise UsageError("the change records do not name their table", hint="--table NAME names it")
    key, note = _found_key(table, name, options)
    absent = next((part for part in key if table.items and all(part not in item for item in table.items)), None)
    if absent is not None:
        echo(f"Note: {name}: no sampled item has the key attribute {absent}; correct `key`.", err=True)
    exports = table.exports[-1] if table.exports else None
    bucket, prefix = options.export_bucket, ""
    if bucket is None and exports is not None and exports.location.startswith("s3://"):
        bucket, _, prefix = exports.location.removeprefix("s3://").partition("/")
    return StarterTable(
        name,
        key,
        note,
        table.region if bucket is not None else None,
        bucket,
        prefix,
        options.changes_uri or next((_relative(landing.uri) for landing in table.landings), None),
        _first_day(found),
        _newest_export(table, found),
        *_entities(table, name, key, options),
    )


def _entities(
    table: FoundTable, name: str, key: Sequence[str], options: InitOptions
) -> tuple[tuple[EntityCandidate, ...], int]:
    """The proposed entities of a table, and the number of items whose keys were sampled; none without `--discover`.

    A note states what the sampled keys show where that differs from the request.
    """
    from ddb_lake.core.schema.entity_candidates import entities_of_keys, type_attribute
    from ddb_lake.core.values.primary_key import key_values

    items = [item for item in table.items if key and all(part in item for part in key)]
    found = entities_of_keys([key_values(item, key) for item in items], key)
    sampled = count_text(len(items), "sampled item")
    if options.discover:
        if not found:
            echo(f"Note: the keys of {sampled} show one kind of item: no entities are proposed.", err=True)
        stated, shown = type_attribute(items), max(1, len([one for one in found if one.key]))
        if stated is not None and stated.kinds != shown:
            echo(
                f"Note: {name}: the keys show {count_text(shown, 'kind')} of items, and the attribute `{stated.name}` states"
                f" {stated.kinds}. Entities are selected by the key alone: compare the patterns with it.",
                err=True,
            )
        return found, len(items)
    # `USER#ann` and `ORDER#1` are of two kinds; words without a part, such as `ann` and `bob`, may be ids
    kinds = [one for one in found if any("{" in pattern for pattern in one.key.values())]
    if len(kinds) > 1:
        echo(
            f"Note: {name}: the keys of {sampled} show several kinds of items; `--discover` proposes a typed table for each.",
            err=True,
        )
    return (), 0


def _found_key(table: FoundTable, name: str, options: InitOptions) -> tuple[tuple[str, ...], str]:
    """The key, and the comment beside it: as it is given, or certain, or as DescribeTable returns it, or likely."""
    given = _given_key(options)
    if given or options.sample:
        return given or _sample_key(), "partition key, then sort key"
    candidate = table.key
    if candidate is not None and candidate.is_certain:
        return candidate.names, candidate.reason
    described = _source_key(name, table.region)
    if described:
        return described, "as DescribeTable returns it"
    return ((), "") if candidate is None else (candidate.names, f"check it: {candidate.reason}")


def _relative(location: str) -> str:
    """A location as it is written in a configuration: relative to the working folder if it is below it."""
    path = Path(location)
    return str(path.relative_to(Path.cwd())) if "://" not in location and path.is_relative_to(Path.cwd()) else location


def _print_found(table: FoundTable, written: StarterTable) -> None:
    """What was understood of a table, and its first rows as they will be."""
    from ddb_lake.cli.doctor.contents import export_text, landing_text
    from ddb_lake.cli.output.tables import print_table
    from ddb_lake.pipeline.discovery import sample_rows

    for export in table.exports:
        echo(f"{_relative(export.location)}: {export_text(export)}")
    for landing in table.landings:
        echo(f"{_relative(landing.uri)}: {landing_text(landing)}")
    if written.key:
        echo(f"key of {written.name}: {', '.join(written.key)} ({written.key_note})")
    if table.items:
        echo("")
        echo(f"{written.name}, the first of {count_text(len(table.items), 'sampled item')}, as rows:")
        print_table(*sample_rows(table.items, written.key, SHOWN_ROWS))
        echo("")


def _document(
    path: Path, tables: Sequence[StarterTable], found: Discovery | None, steps: list[str]
) -> dict[str, object]:
    document: dict[str, object] = {"path": str(path), "table": tables[0].name, "key": tables[0].key, "next": steps}
    if tables[0].is_pattern:
        document = {"path": str(path), "match": tables[0].name, "next": steps}
    if found is not None:
        document["tables"] = [
            {
                "table": table.name,
                "key": table.key,
                "key_note": table.key_note,
                "exports": table.exports,
                "changes": table.changes_uri,
            }
            for table in tables
        ]
    return document


# --- the next commands


def _check(text: str, path: Path) -> None:
    """Raise ConfigError if the text is not a valid configuration."""
    import yaml

    from ddb_lake.config import parse_entries

    parse_entries(yaml.safe_load(text)["attributes"], str(path))


def _instruction(tables: Sequence[StarterTable], named: bool) -> str:
    """The line above the next commands."""
    if tables[0].is_pattern:
        has_places = tables[0].changes_uri or tables[0].export_bucket
        return "Next:" if has_places else "Add `changes` or `export` to the entry, then:"
    if not named:
        return f"Replace the name and key of `{tables[0].name}` with those of your table, then:"
    has_keys = all(table.key for table in tables)
    return "Next:" if has_keys else "Fill in `key`, unless every run can call DescribeTable, then:"


def _option(path: Path) -> str:
    return "" if path == DEFAULT_PATH else f" --config {shlex.quote(str(path))}"


def _doctor_step(path: Path) -> tuple[str, str]:
    return f"ddb-lake doctor{_option(path)}", "what is missing, and how to correct it"


def _query_step(path: Path) -> tuple[str, str]:
    from ddb_lake.cli.sample import QUERY

    return f'ddb-lake query{_option(path)} "{QUERY}"', "the orders as they are now"


def _next_steps(path: Path, table: StarterTable) -> list[tuple[str, str]]:
    """The next commands for a table, and what each does."""
    option, name = _option(path), shlex.quote(table.name)
    steps = []
    if table.exports is not None:
        steps.append((f"ddb-lake load {name} --export {shlex.quote(table.exports)}{option}", "a finished export"))
    elif table.export_bucket is not None:
        steps.append((f"ddb-lake export {name}{option}", "a full export from DynamoDB into the lake"))
    else:
        steps.append((f"ddb-lake load {name} --export URI{option}", "a finished export"))
    changes = shlex.quote(table.changes_uri) if table.changes_uri else "URI"
    if table.changes_uri is not None or table.exports is None:
        steps.append((f"ddb-lake apply {name} {changes}{option}", "change records that have landed"))
    return steps


def _scalar(text: str) -> str:
    """A string in YAML, quoted where YAML requires it."""
    if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS and not text.endswith(":") and ": " not in text:
        return text
    import yaml

    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9)
    return quoted.strip()
