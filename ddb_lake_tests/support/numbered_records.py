"""Change records with a number that distinguishes them, and which of them an object has."""

from __future__ import annotations

from typing import Any

from ddb_lake.core.decode.objects import read_object
from ddb_lake.core.values.change_record import ChangeRecord, Rejected
from ddb_lake_tests.support import envelopes


def make(number: int, **attributes: Any) -> dict[str, Any]:
    """A small change record with its number."""
    key = {"id": {"N": str(number)}}
    item = {**key, "text": {"S": '}{ "a" {'}, "map": {"M": {"eventID": {"S": "x"}, "Keys": {"M": {}}}}, **attributes}
    return envelopes.kds(envelopes.Change("MODIFY", key, item, item, 1_720_742_302_233_000, f"event-{number}"))


RECORDS = [envelopes.compact(make(number)) for number in range(4)]


def numbers(data: bytes, **options: Any) -> list[int]:
    """The numbers of the records in an object, and -1 for each Rejected."""
    outcomes = [located.outcome for located in read_object(data, **options)]
    return [int(o.keys["id"]["N"]) if isinstance(o, ChangeRecord) else -1 for o in outcomes]


def rejected(data: bytes, **options: Any) -> list[Rejected]:
    return [o.outcome for o in read_object(data, **options) if isinstance(o.outcome, Rejected)]
