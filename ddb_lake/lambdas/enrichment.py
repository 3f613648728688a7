"""A user's function that changes items on their way: the variable `DDB_LAKE_ENRICH` of `transform` and `replicate`.

    def add_total(item, origin):
        item["total"] = item["price"] * item["quantity"]
        return item

`DDB_LAKE_ENRICH=package.module:function` names it. The function takes the item in the types of boto3's resource interface
(`core.values.python_values`: numbers are Decimal, sets are set, binary is bytes) and an `Origin`, and returns the item. It may
change the argument in place. It must return the same result for the same arguments, because services deliver records more
than once.

An attribute that the function leaves equal keeps the exact text that it had. A record for which the function raises, returns no
item, or changes a key attribute fails alone (`UndecodableError`): Firehose writes the original to the error prefix, and
`replicate` reports the record to Lambda. The reason has the type of the exception and its line, and no value. Standard
library only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypeAlias

from ddb_lake.core.values.attributes import canonical_value, check_item
from ddb_lake.core.values.change_record import AttributeValue, ChangeRecord, Item
from ddb_lake.core.values.conversions import double_binary
from ddb_lake.core.values.plain_json import loads_exact, plain_json_text
from ddb_lake.core.values.python_values import from_python, to_python
from ddb_lake.errors import ConfigError, UndecodableError

_NAME: Final = "DDB_LAKE_ENRICH"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an item comes from.

    Attributes:
        table: `transform`: the source table, None if the record does not state it. `replicate`: the table that is written.
        sequence_number, shard: the place of the record in Kinesis. Only for `replicate`: both images of a change have one
            arrival, and the result for an image must not depend on it.
    """

    table: str | None
    sequence_number: str | None = None
    shard: str | None = None


EnrichFunction: TypeAlias = Callable[[dict[str, Any], Origin], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Enrichment:
    """A user's function and its name, `package.module:function`."""

    name: str
    function: EnrichFunction

    @classmethod
    def named(cls, name: str) -> Enrichment:
        """Import the function. Raises ConfigError if there is none of this name."""
        module_name, colon, function_name = name.partition(":")
        if not module_name or not colon or not function_name.isidentifier():
            raise ConfigError(f"{_NAME} is {name!r}: expected package.module:function")
        try:
            module = importlib.import_module(module_name)
        except Exception as error:
            raise ConfigError(
                f"{_NAME} is {name!r}: the module cannot be imported: {type(error).__name__}: {error}",
                hint="package the module with the function",
            ) from error
        function = getattr(module, function_name, None)
        if not callable(function):
            raise ConfigError(f"{_NAME} is {name!r}: the module has no function {function_name!r}")
        return cls(name, function)

    def apply(self, item: Item, origin: Origin, keys: Collection[str]) -> Item:
        """The changed item.

        Args:
            item: checked; it is not changed.
            origin: the function's second argument.
            keys: names of the attributes that must stay as they are.

        Raises:
            UndecodableError: the function raised, or its result is not an item with the same key.
        """
        given = {name: to_python(value) for name, value in item.items()}
        try:
            result: Any = self.function(given, origin)
        except Exception as error:
            raise UndecodableError(
                f"{self.name} raised {type(error).__name__}{_line(error.__traceback__)}"
            ) from None  # the message of the exception may have values
        if not isinstance(result, dict):
            raise UndecodableError(f"{self.name} returned {type(result).__name__}: expected the item")
        try:
            changed = {name: _encoded(value, item.get(name)) for name, value in result.items()}
            check_item(changed)
        except UndecodableError as error:
            raise UndecodableError(f"{self.name} returned no item of DynamoDB: {error}") from None
        for name in keys:
            if name not in changed or canonical_value(changed[name]) != canonical_value(item[name]):
                raise UndecodableError(f"{self.name} changed the key attribute {name!r}, which must stay as it is")
        return changed


def _encoded(value: Any, original: AttributeValue | None) -> AttributeValue:
    """The value in DynamoDB JSON: exactly the original one, if it is equal."""
    encoded = from_python(value)
    if original is not None and canonical_value(encoded) == canonical_value(original):
        return original
    return encoded


def _line(traceback: TracebackType | None) -> str:
    """The place in the code where an exception was raised, for the log."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return ""
    name = traceback.tb_frame.f_globals.get("__name__", "?")
    return f" at {name}:{traceback.tb_lineno}"


def enriched_record(data: bytes, record: ChangeRecord, enrichment: Enrichment) -> bytes:
    """A captured record with the function's results in place of its images; all else is as it was, to each digit.

    Args:
        data: the JSON text of the record.
        record: the same record, read.
        enrichment: the function. It is called once for each image.

    Raises:
        UndecodableError: as `Enrichment.apply`.
    """
    envelope = loads_exact(data.decode())
    body = envelope["dynamodb"]
    origin = Origin(record.table)
    for name, image in (("NewImage", record.new_image), ("OldImage", record.old_image)):
        if image is None:
            continue
        written = body[name]
        body[name] = {
            attribute: written[attribute] if value is image.get(attribute) else _as_captured(value, record)
            for attribute, value in enrichment.apply(image, origin, record.keys.keys()).items()
        }
    return plain_json_text(envelope).encode()


def _as_captured(value: AttributeValue, record: ChangeRecord) -> AttributeValue:
    """A value as the record's form has it: records of Kinesis Data Streams have binary encoded twice."""
    return double_binary(value) if record.kind == "kds" else value
