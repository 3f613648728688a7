"""`ddb-lake init`: a starter configuration."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import click

from ddb_lake.cli.command import command, json_option, options_object
from ddb_lake.cli.output.terminal import echo
from ddb_lake.cli.output.writers import write_document
from ddb_lake.errors import DdbLakeError, UsageError

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
    - name: {table}
"""
_EXPORT = "      export: {{bucket: {bucket}}}   # and: prefix, schedule, bucket_owner, kms_key_id\n"
_EXPORT_HINT = '      # export: {bucket: my-exports, prefix: orders, schedule: "0 3 * * 0"}   # for full exports\n'
_CHANGES = "      changes: {{uri: {uri}}}\n"
_CHANGES_HINT = "      # changes: {uri: s3://my-landing/orders/}   # where Firehose delivers the change records\n"
_TAIL = """\
      # source: {region: eu-west-1, role_arn: ...}   # default: the standard AWS variables
      # columns: {amount: "decimal(38,2)", payload: json}
      # nested: flatten                  # or json
      # schema_evolution: add_columns    # or rescue, fail
      # ttl_deletes: apply               # or keep
"""


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What a starter configuration names."""

    table: str | None
    key: tuple[str, ...]
    warehouse: str
    export_bucket: str | None = None
    changes_uri: str | None = None


@command(
    "init",
    "Write a starter configuration.",
    "ddb-lake init --table orders --key customer --key order_id --export-bucket my-exports"
    " --changes-uri s3://my-landing/orders/",
)
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default="ddb_lake.yaml", metavar="[PATH]")
@click.option("--table", help="The DynamoDB table's name.")
@click.option(
    "--key",
    multiple=True,
    help="A key attribute: partition key first, then sort key (or both, a comma between). Default: as DescribeTable returns it.",
)
@click.option("--warehouse", default="lake", show_default=True, help="Where the lake is: a folder, file:// or s3://.")
@click.option("--export-bucket", help="The bucket for DynamoDB's exports.")
@click.option("--changes-uri", help="Where Firehose delivers the change records: a folder or s3:// prefix.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
@options_object(InitOptions)
def init(path: Path, options: InitOptions, force: bool, as_json: bool) -> None:
    """Write a starter configuration to PATH (default: ddb_lake.yaml) and print the next commands."""
    if path.exists() and not force:
        raise UsageError(f"{path} exists already", hint="--force replaces it")
    name = "orders" if options.table is None else options.table
    key = tuple(attribute for text in options.key for attribute in _attributes(text))
    if not key:
        key = ("customer", "order_id") if options.table is None else _source_key(options.table)
    text = starter(replace(options, table=name, key=key))
    _check(text, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    steps = _next_steps(path, name, options)
    if as_json:
        write_document({"path": str(path), "table": name, "key": key, "next": [step for step, _ in steps]})
        return
    echo(f"Wrote {path}.")
    echo(_instruction(name, bool(key), named=options.table is not None))
    room = max(len(step) for step, _ in steps)
    for step, what in steps:
        echo(f"  {step:<{room}}   # {what}")


def starter(options: InitOptions) -> str:
    """The text of a starter configuration."""
    key = f"[{', '.join(map(_scalar, options.key))}]"
    line = (
        f"key: {key}   # partition key, then sort key"
        if options.key
        else "# key: [...]   # read from the table if it is left out"
    )
    return (
        _HEAD.format(warehouse=_scalar(options.warehouse), table=_scalar(options.table or ""))
        + f"      {line}\n"
        + (_EXPORT.format(bucket=_scalar(options.export_bucket)) if options.export_bucket else _EXPORT_HINT)
        + (_CHANGES.format(uri=_scalar(options.changes_uri)) if options.changes_uri else _CHANGES_HINT)
        + _TAIL
    )


def _source_key(table: str) -> tuple[str, ...]:
    """The key attributes of the DynamoDB table; empty, with a note, if DescribeTable fails."""
    from ddb_lake.aws.diagnostics import credentials_source, table_state
    from ddb_lake.config import parse_settings

    settings = parse_settings({"warehouse": "lake", "tables": [{"name": table}]}, "init")
    try:
        if credentials_source() is None:
            return ()
        return table_state(settings.tables[0]).key
    except DdbLakeError as error:
        echo(f"Note: the key of {table} could not be read from DynamoDB: {error}", err=True)
        return ()


def _check(text: str, path: Path) -> None:
    """Raise ConfigError if the text is not a valid configuration."""
    import yaml

    from ddb_lake.config import parse_settings

    parse_settings(yaml.safe_load(text)["attributes"], str(path))


def _attributes(text: str) -> list[str]:
    """The attributes of one `--key`. Raises UsageError for an empty name."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UsageError(f"--key {text!r}: an attribute without a name; expected PARTITION or PARTITION,SORT")
    return names


def _instruction(table: str, has_key: bool, named: bool) -> str:
    """The line above the next commands."""
    if not named:
        return f"Replace the name and key of `{table}` with those of your table, then:"
    return "Next:" if has_key else "Fill in `key`, unless every run can call DescribeTable, then:"


def _next_steps(path: Path, table: str, options: InitOptions) -> list[tuple[str, str]]:
    """The next commands, and what each does."""
    option = "" if path == Path("ddb_lake.yaml") else f" --config {shlex.quote(str(path))}"
    steps = [(f"ddb-lake doctor{option}", "what is missing, and how to correct it")]
    if options.export_bucket is not None:
        steps.append((f"ddb-lake export {table}{option}", "a full export from DynamoDB into the lake"))
    else:
        steps.append((f"ddb-lake load {table} --export URI{option}", "a finished export"))
    changes = shlex.quote(options.changes_uri) if options.changes_uri else "URI"
    steps.append((f"ddb-lake apply {table} {changes}{option}", "change records that have landed"))
    return steps


def _scalar(text: str) -> str:
    """A string in YAML, quoted where YAML requires it."""
    if _PLAIN.fullmatch(text) and text.lower() not in _YAML_WORDS and not text.endswith(":") and ": " not in text:
        return text
    import yaml

    quoted: str = yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9)
    return quoted.strip()
