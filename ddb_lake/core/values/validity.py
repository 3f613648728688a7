"""The definition of a valid value of DynamoDB: one for every way in.

`attributes.check_item` decides over decoded JSON, `jsontext` over the text: UTF-8, standard JSON, no name twice in one
object. Readers of change records apply both; the functions here apply both to a text that is one item or one line of a
full export. `docs/explanation/types.md` has the definition as a table, `ddb_lake_tests/support/dynamodb_values.py` has its cases.
"""

from __future__ import annotations

from ddb_lake.core.values.attributes import check_item
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.values.json_text import exact, fault_of, loads
from ddb_lake.errors import UndecodableError

ITEM_MEMBER = "Item"
"""The member of a full export's line that has the item."""


def read_item(raw: bytes) -> Item:
    """The item in a JSON text. Raises UndecodableError, which names the fault and its place, but not the value."""
    item = _read_object(raw)
    check_item(item)
    return item


def read_line(raw: bytes) -> Item:
    """The item of a full export's line, `{"Item":{…}}`. Raises UndecodableError as `read_item`."""
    line = _read_object(raw)
    if line.keys() != {ITEM_MEMBER}:
        if ITEM_MEMBER not in line:
            raise UndecodableError('no item: a line of a full export is {"Item":{…}}')
        raise UndecodableError('a member beside the item: a line of a full export is {"Item":{…}}')
    item: Item = line[ITEM_MEMBER]
    check_item(item)
    return item


def _read_object(raw: bytes) -> Item:
    value = loads(raw)
    if value is None and raw.strip() != b"null":
        raise UndecodableError(fault_of(raw))
    if type(value) is not dict:
        raise UndecodableError("a JSON value that is no object")
    return exact(raw, value, plain=False)
