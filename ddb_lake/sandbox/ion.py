"""Items as Amazon Ion text, as DynamoDB writes them in exports with the format ION."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from amazon.ion.core import IonType
from amazon.ion.simple_types import IonPyBytes, IonPyDecimal, IonPyDict, IonPyList
from amazon.ion.simpleion import dumps

from ddb_lake.sandbox.items import Item

_SETS: Final = ("SS", "NS", "BS")


def ion_line(members: Mapping[str, Item]) -> str:
    """A line of an export: a struct of items, which are `Item`, or those of an incremental export."""
    items = {name: _struct(item) for name, item in members.items()}
    return str(dumps(items if "Item" in items else {"Record": items}, binary=False))


def _struct(item: Item) -> Any:
    return IonPyDict.from_value(IonType.STRUCT, {name: _value(value) for name, value in item.items()})


def _value(value: Mapping[str, Any]) -> Any:
    ((tag, payload),) = value.items()
    if tag in _SETS:
        members = [_value({tag[0]: member}) for member in payload]
        return IonPyList.from_value(IonType.LIST, members, annotations=(f"$dynamodb_{tag}",))
    if tag == "N":
        return IonPyDecimal.from_value(IonType.DECIMAL, Decimal(payload))
    if tag == "B":
        return IonPyBytes.from_value(IonType.BLOB, base64.b64decode(payload))
    if tag == "L":
        return [_value(member) for member in payload]
    if tag == "M":
        return _struct(payload)
    return None if tag == "NULL" else payload
