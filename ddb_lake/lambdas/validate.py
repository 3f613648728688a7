"""Firehose transformation that validates change records and delivers CSV rows, plain JSON or envelopes.

`firehose_batch` has the shapes of event and response.

`DDB_LAKE_SCHEMAS`
    JSON by source table: `{"web_analytics": {"schema": {…}, "attribute": "payload"}}`, a list if several apply,
    `[]` for a table without one. `schema` is a draft-07 JSON Schema or the name of a file with one; it describes the
    item in plain JSON or, with `attribute`, the document in that attribute (`core.values.json_schema`). Or the name of a file
    with this JSON. Files are packaged beside the code. Records of other tables fail; if one table is
    named, records without a table belong to it. Not set: nothing is validated.
`DDB_LAKE_OUTPUT`
    `envelope` (default), `json` and `nested`: as `envelope`, `flatten` and `nested` of the transform handler. `csv`:
    `mysql.csv_rows`.
`DDB_LAKE_COLUMNS`
    For `csv`, by source table: `{"web_analytics": {"page": "/page_id", "hits": "/payload/Hits"}}`, columns in their order
    with the JSON Pointer of each (below a string it goes on into the JSON text there), or a list of attributes.
`DDB_LAKE_PARTITION_KEYS`
    As of the transform handler.

An invalid record is ProcessingFailed with its original data; the log counts the reasons, without values. Removes are not
validated. Standard library and fastjsonschema only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from ddb_lake.core.capture.firehose_records import parse_names, partition_keys
from ddb_lake.core.decode.arrival_stamp import Arrival
from ddb_lake.core.values.change_record import ChangeRecord
from ddb_lake.core.values.json_schema import Rule, Validator
from ddb_lake.errors import ConfigError, UndecodableError
from ddb_lake.lambdas.environment import Variable, read_variables
from ddb_lake.lambdas.firehose_batch import Kept, is_blank, process_batch
from ddb_lake.lambdas.transform import Captured
from ddb_lake.mysql.csv_rows import Column, csv_row

VARIABLES: Final = (
    Variable("DDB_LAKE_SCHEMAS"),
    Variable("DDB_LAKE_OUTPUT"),
    Variable("DDB_LAKE_COLUMNS"),
    Variable("DDB_LAKE_PARTITION_KEYS"),
)
_OUTPUTS = ("csv", "envelope", "json", "nested")
T = TypeVar("T")


def handler(event: dict[str, Any], context: object) -> dict[str, list[dict[str, Any]]]:  # noqa: ARG001  # Lambda's
    """The entry point of Lambda. Raises ConfigError for an invalid environment, and nothing for any event."""
    return process_batch(event, _validation(tuple(read_variables(VARIABLES, os.environ).items())).process)


@lru_cache(maxsize=4)
def _validation(environment: tuple[tuple[str, str], ...]) -> Validation:
    return Validation.from_environment(dict(environment))


@dataclass(frozen=True, slots=True)
class Validation:
    """The validators and the output. `validators`: None validates nothing."""

    output: Literal["csv", "envelope", "json", "nested"] = "envelope"
    validators: Mapping[str, Validator] | None = None
    columns: Mapping[str, Sequence[Column]] = field(default_factory=dict)
    partition_keys: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], folder: Path | None = None) -> Validation:
        """Read the settings. Files are in `folder` (default: the working folder).

        Raises:
            ConfigError: a variable is invalid.
        """
        found = read_variables(VARIABLES, environment)
        output = found.get("DDB_LAKE_OUTPUT", "envelope")
        if output not in _OUTPUTS:
            raise ConfigError(f"DDB_LAKE_OUTPUT is {output!r}: expected one of {', '.join(_OUTPUTS)}")
        root = Path() if folder is None else folder
        columns = _by_table(found.get("DDB_LAKE_COLUMNS", "{}"), "DDB_LAKE_COLUMNS", root, _columns)
        if output == "csv" and not columns:
            raise ConfigError(
                'DDB_LAKE_OUTPUT is csv: name the columns in DDB_LAKE_COLUMNS, {"<table>": ["<attribute>"]}'
            )
        schemas = found.get("DDB_LAKE_SCHEMAS")
        return cls(
            output,  # type: ignore[arg-type]  # one of _OUTPUTS
            _by_table(schemas, "DDB_LAKE_SCHEMAS", root, lambda rules: Validator(_rules(rules, root)))
            if schemas
            else None,
            columns,
            parse_names(found.get("DDB_LAKE_PARTITION_KEYS", "")),
        )

    def process(self, data: bytes, arrival: Arrival) -> Kept | None:
        """The delivered form of one record; None for white space.

        Raises:
            UndecodableError: it is not a change record, or invalid; the reason has no values.
        """
        if is_blank(data):
            return None
        captured = Captured.read(data, arrival)
        if self.validators is not None:
            fault = _of_table(self.validators, captured.record, "schema").fault(captured.record)
            if fault is not None:
                raise UndecodableError(fault)
        keys = partition_keys(captured.record, self.partition_keys) if self.partition_keys else None
        return Kept(self._delivered(captured), keys)

    def _delivered(self, captured: Captured) -> bytes:
        if self.output == "csv":
            return csv_row(captured.record, _of_table(self.columns, captured.record, "columns")).encode()
        return captured.envelope() if self.output == "envelope" else captured.flattened(nested=self.output == "nested")


def _of_table(settings: Mapping[str, T], record: ChangeRecord, what: str) -> T:
    named = next(iter(settings), None) if record.table is None and len(settings) == 1 else record.table
    if named is not None and named in settings:
        return settings[named]
    raise UndecodableError(f"no {what} configured for the record's table")


def _by_table(text: str, name: str, folder: Path, read: Callable[[Any], T]) -> dict[str, T]:
    found = _json(text if text.lstrip().startswith("{") else _file(folder, text, name), name)
    if not isinstance(found, dict):
        raise ConfigError(f"{name}: expected a JSON object by table, or the name of a file with one")
    settings: dict[str, T] = {}
    for table, value in found.items():
        try:
            settings[table] = read(value)
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"{name}: table {table!r}: {error}") from error
    return settings


def _rules(value: Any, folder: Path) -> list[Rule]:
    return [_rule(one, folder) for one in (value if isinstance(value, list) else [value])]


def _rule(value: Any, folder: Path) -> Rule:
    if not isinstance(value, dict) or not {"schema"} <= value.keys() <= {"schema", "attribute"}:
        raise ConfigError('expected {"schema": …} with an optional "attribute"')
    schema, attribute = value["schema"], value.get("attribute")
    if attribute is not None and not isinstance(attribute, str):
        raise ConfigError("attribute: expected the name of an attribute")
    return Rule(_json(_file(folder, schema, "schema"), schema) if isinstance(schema, str) else schema, attribute)


def _columns(value: Any) -> tuple[Column, ...]:
    if isinstance(value, list) and value and all(isinstance(name, str) and name for name in value):
        return tuple(Column(name, (name,)) for name in value)
    if isinstance(value, dict) and value and all(isinstance(pointer, str) for pointer in value.values()):
        return tuple(Column.at(name, pointer) for name, pointer in value.items())
    raise ConfigError("expected attribute names in a list, or columns with their JSON Pointers in an object")


def _file(folder: Path, name: str, what: str) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what}: {name!r} is neither JSON nor a file that can be read") from error


def _json(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{what}: not JSON: {error}") from error
