"""Types of DuckDB whose values do not arrive exactly in a Parquet file or in Python, and casts to types that keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ddb_lake.engine.sql import identifier
from ddb_lake.errors import UsageError

IN_PARQUET: Mapping[str, str] = MappingProxyType({
    "HUGEINT": "DECIMAL(38,0)",
    "UHUGEINT": "DECIMAL(38,0)",
    "TIME WITH TIME ZONE": "VARCHAR",
    "INTERVAL": "VARCHAR",
})  # fmt: skip
"""DuckDB writes HUGEINT (the type of `sum`) as floating-point numbers, TIME WITH TIME ZONE in another zone, and INTERVAL without
microseconds. A number of more digits is an error."""

IN_PYTHON: Mapping[str, str] = MappingProxyType({
    "INTERVAL": "VARCHAR",
    "TIMESTAMP_NS": "VARCHAR",
    "TIME_NS": "VARCHAR",
    "TIME WITH TIME ZONE": "VARCHAR",
})  # fmt: skip
"""Python's types have no nanoseconds, and an interval of Python has no months: DuckDB makes 30 days of each."""


def exact_type(kind: Any, exact: Mapping[str, str]) -> str | None:
    """The type as which a value of a DuckDB type is kept; None for the type itself.

    Args:
        kind: DuckDB's type.
        exact: `IN_PARQUET` or `IN_PYTHON`.

    Raises UsageError for a UNION with a value that is not kept.
    """
    if str(kind) in exact:
        return exact[str(kind)]
    if kind.id not in ("list", "array", "struct", "map", "union"):
        return None
    inner = dict(kind.children)
    size = f"[{inner.pop('size')}]" if kind.id == "array" else "[]"
    found = {name: exact_type(child, exact) for name, child in inner.items()}
    if not any(found.values()):
        return None
    if kind.id == "union":
        raise UsageError(f"a value of type {kind} is not kept exactly", hint="cast it to VARCHAR")
    types = [written or str(inner[name]) for name, written in found.items()]
    if kind.id in ("list", "array"):
        return types[0] + size
    if kind.id == "map":
        return f"MAP({', '.join(types)})"
    return f"STRUCT({', '.join(f'{identifier(name)} {written}' for name, written in zip(inner, types, strict=True))})"


def casts_for_python(kinds: Sequence[Any]) -> list[str | None]:
    """The types as which Python gets columns of these DuckDB types exactly, None for a column's own; empty if each has its own."""
    casts: list[str | None] = []
    for kind in kinds:
        try:
            casts.append(exact_type(kind, IN_PYTHON))
        except UsageError:  # a UNION of such a type
            casts.append("VARCHAR")
    return casts if any(casts) else []


def cast_columns(rows: str, kinds: Sequence[str | None], names: Sequence[str]) -> str:
    """A SELECT of a relation's columns, in their sequence, each cast to the type of `kinds`, if there is one."""
    places = [f"c{number}" for number in range(len(names))]
    selected = ", ".join(
        f"{place if kind is None else f'CAST({place} AS {kind})'} AS {identifier(name)}"
        for place, kind, name in zip(places, kinds, names, strict=True)
    )
    return f"SELECT {selected} FROM {rows} AS r({', '.join(places)})"
