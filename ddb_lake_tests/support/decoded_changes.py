"""One change, and what is read of the objects it is put into."""

from __future__ import annotations

from typing import Any

from ddb_lake.core.decode.envelopes import read_envelope
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake_tests.support import envelopes

CHANGE = envelopes.Change(
    "MODIFY",
    {"id": {"S": "a"}},
    {"id": {"S": "a"}, "n": {"N": "2"}},
    {"id": {"S": "a"}, "n": {"N": "1"}},
    1_720_742_302_233_000,
    "24757579-ebfd-480a-956d-a1287d2ef707",
)


def read(obj: Any, **options: Any) -> list[ChangeRecord | Rejected]:
    return list(read_envelope(obj, **options))


def one(obj: Any, **options: Any) -> ChangeRecord:
    (record,) = read(obj, **options)
    assert isinstance(record, ChangeRecord), record
    return record


def reason(obj: Any, **options: Any) -> str:
    (rejected,) = read(obj, **options)
    assert isinstance(rejected, Rejected), rejected
    return rejected.reason


def changed(obj: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A capture with members of its `dynamodb` object replaced, or removed where the value is `...`."""
    body = {**obj["dynamodb"], **members}
    return {**obj, "dynamodb": {name: value for name, value in body.items() if value is not ...}}
