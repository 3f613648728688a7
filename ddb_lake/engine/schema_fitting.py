"""The schema that fits the items, decided over all of them: project, look at what was left over, and adjust.

A first guess comes from a sample. What it cannot hold lands in `_rescued`, so only those rows have to be looked at to
know what all rows need; if that changes the schema, the rows are projected again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias

import orjson

from ddb_lake.core.schema.inference import Inference, Need
from ddb_lake.core.schema.table_schema import (
    Column,
    Path,
    SchemaOptions,
    TableSchema,
    contested,
    evolve,
)
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.projection import Projection, number_text
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried
from ddb_lake.errors import CheckFailed

Policy: TypeAlias = Literal["add_columns", "rescue", "fail"]
SAMPLE_ROWS = 4_000
MAX_PASSES = 12

Project: TypeAlias = Callable[[Projection], str]
"""Carries a projection out; gives the relation (with the columns and `_rescued`) that holds its rows."""

Carry: TypeAlias = Callable[[TableSchema, set[Path]], Callable[[bool], Inference]]
"""Projects all rows onto a schema, wherever they are (the paths: where NULLs are expected), and returns `leftovers` of
them as a function of `counted`."""


def guess(items: Iterable[Item], known: TableSchema, options: SchemaOptions) -> tuple[TableSchema, set[Path]]:
    """A first schema from some items and the columns already known, and the paths of the items' NULLs."""
    seen = Inference(options)
    for item in items:
        seen.observe(item)
    return guess_seen(seen, known)


def guess_seen(seen: Inference, known: TableSchema) -> tuple[TableSchema, set[Path]]:
    """`guess` from what was seen of some items; `seen` takes the known columns in."""
    for column in known.columns:
        seen.observe_column(column, 0)
        for length in range(1, len(column.path)):
            seen.observe_maps(column.path[:length], 0)
    return seen.schema(known.key, known), _null_paths(seen)


def fit(
    session: Session,
    first: TableSchema,
    known: TableSchema,
    nulls: set[Path],
    options: SchemaOptions,
    project: Project,
    member: str | None = None,
) -> tuple[TableSchema, str]:
    """The schema that fits all rows, and the relation that `project` made of them with it."""
    carrying = _Here(session, options, project, member)
    schema = fitted(first, known, nulls, carrying)
    return schema, carrying.relation


def fitted(first: TableSchema, known: TableSchema, nulls: set[Path], carry: Carry) -> TableSchema:
    """The schema that fits all rows; the last call of `carry` projected them onto it.

    `known`: the table's schema, whose names are kept. If several new attributes need the same name, all rows are counted.
    """
    schema = first
    for _ in range(MAX_PASSES):
        counted = contested(schema, known)
        left = carry(schema, nulls)(counted)
        if not counted and not decisive(left):
            return schema
        nulls = nulls | _null_paths(left)
        wanted = left.schema(schema.key, known)
        if wanted == schema:
            return schema
        schema = wanted
    return schema


def extend(
    session: Session,
    schema: TableSchema,
    options: SchemaOptions,
    policy: Policy,
    project: Project,
    member: str | None = None,
) -> tuple[TableSchema, str]:
    """An existing schema with columns added for new attributes, if `policy` says so, and the projected relation.

    Raises CheckFailed, naming the attributes, if the policy is `fail` and there are new ones.
    """
    carrying = _Here(session, options, project, member)
    schema = extended(schema, policy, carrying)
    return schema, carrying.relation


def extended(schema: TableSchema, policy: Policy, carry: Carry) -> TableSchema:
    """As `extend`; `carry` projected the rows onto the schema last."""
    nulls: set[Path] = set()
    for _ in range(MAX_PASSES):
        leftover = carry(schema, nulls)
        if policy == "rescue":
            break
        left = leftover(False)
        wider = evolve(schema, left.columns(schema.key)) if decisive(left) else schema
        if wider == schema:
            break
        if policy == "fail":
            known = {c.path for c in schema.columns}
            new = sorted(".".join(c.path) for c in wider.columns if c.path not in known)
            raise CheckFailed(
                f"new attributes {new[:10]} and `schema_evolution: fail`; nothing was committed."
                " Allow them with `schema_evolution: add_columns` or `rescue`"
            )
        schema, nulls = wider, nulls | _null_paths(left)
    return schema


class _Here:
    """Carries projections out in one session. `relation`: the rows of the last one."""

    def __init__(self, session: Session, options: SchemaOptions, project: Project, member: str | None) -> None:
        self._session, self._options, self._project, self._member = session, options, project, member
        self.relation = ""

    def __call__(self, schema: TableSchema, nulls: set[Path]) -> Callable[[bool], Inference]:
        projection = Projection(schema, nulls, self._member)
        projection.register(self._session.con)
        self.relation = self._project(projection)
        return lambda counted: leftovers(self._session, self.relation, schema, self._options, counted)


def leftovers(
    session: Session, relation: str, schema: TableSchema, options: SchemaOptions, counted: bool = False
) -> Inference:
    """The values that the columns of `relation` do not hold, and the number of values in the columns and the maps above.

    The values are counted only if the leftovers could change the schema, if numbers are held as text, or if `counted`
    is true.
    """
    inference = rescued_values(session, relation, schema, options)
    wide = any(is_number(c) and c.type.endswith(("string", "string>")) for c in schema.columns)
    if counted or wide or decisive(inference):  # text may be wider than the values need
        observe_held(
            inference, schema, held_values(session, relation, schema), held_needs(session, relation, schema, inference)
        )
    return inference


def rescued_values(session: Session, relation: str, schema: TableSchema, options: SchemaOptions) -> Inference:
    """What the columns of `relation` do not hold. Those of parts of the rows can be merged."""
    inference = Inference(options)
    if session.value(f"SELECT count(_rescued) FROM {relation}") == 0:
        return inference
    maps = _maps(schema)
    columns = {c.path: c for c in schema.columns}
    flags = "".join(f", {condition}" for condition in maps.values())
    cursor = session.con.cursor()
    cursor.execute(f"SELECT count(*), _rescued{flags} FROM {relation} WHERE _rescued IS NOT NULL GROUP BY ALL")
    while rows := cursor.fetchmany(10_000):
        for count, text, *held in rows:
            counted = {path for path, has in zip(maps, held, strict=True) if has}
            inference.observe_rescued(orjson.loads(text), count, counted, columns)
    return inference


def _maps(schema: TableSchema) -> dict[Path, str]:
    """For each flattened map, the SQL condition that a row has a column of it."""
    below: dict[Path, list[str]] = {}
    for column in schema.columns:
        for length in range(1, len(column.path)):
            below.setdefault(column.path[:length], []).append(f"{carried(column.name)} IS NOT NULL")
    return {path: f"greatest({', '.join(conditions)})" for path, conditions in below.items()}


def decisive(left: Inference) -> bool:
    """Whether leftovers could change the schema: NULLs, empty maps and what its column holds as well never do."""
    return any({tag for tag, count in stats.counts.items() if count} - {"NULL", "{}"} for stats in left.paths.values())


def _null_paths(inference: Inference) -> set[Path]:
    return {path for path, stats in inference.paths.items() if "NULL" in stats.counts}


def held_values(session: Session, relation: str, schema: TableSchema) -> list[int]:
    """How many values each column holds, then how many rows have columns of each flattened map."""
    counts = [f"count({carried(c.name)})" for c in schema.columns]
    rows = [f"count(*) FILTER (WHERE {condition})" for condition in _maps(schema).values()]
    return list(session.rows(f"SELECT {', '.join([*counts, *rows])} FROM {relation}")[0]) if counts else []


def is_number(column: Column) -> bool:
    """Whether a column holds numbers exactly, or sets of them."""
    return column.tag in ("N", "NS") and column.type != "double"


def held_needs(session: Session, relation: str, schema: TableSchema, left: Inference) -> dict[Path, Counter[Need]]:
    """The needs of the numbers in columns whose type may change: text columns, and columns that left numbers over.

    The size is bounded by the number of different needs: integer digits times decimals.
    """
    found: dict[Path, Counter[Need]] = {}
    for column in schema.columns:
        stats = left.paths.get(column.path)
        unfitted = stats is not None and stats.counts.get(column.tag)
        if column.tag != "N" or not is_number(column) or not (unfitted or column.type == "string"):
            continue
        name = carried(column.name)
        text = f"ddb_canonical_number({name})" if column.type == "string" else number_text(column.type, name)
        whole, decimals = f"split_part(ltrim({text}, '-'), '.', 1)", f"split_part({text}, '.', 2)"
        digits = f"CASE WHEN {whole} = '0' THEN 0 ELSE strlen({whole}) END"
        fits = f"strlen({decimals}) = 0 AND TRY_CAST({text} AS BIGINT) IS NOT NULL"
        rows = session.rows(
            f"SELECT {digits}, strlen({decimals}), {fits}, count(*) FROM {relation} WHERE {name} IS NOT NULL GROUP BY ALL"
        )
        found[column.path] = Counter({(digits, scale, int64): count for digits, scale, int64, count in rows})
    return found


def observe_held(
    into: Inference,
    schema: TableSchema,
    held: Sequence[int],
    needs: Mapping[Path, Mapping[Need, int]] | None = None,
) -> None:
    """Add the counts of `held_values` and `held_needs`."""
    for column, count in zip(schema.columns, held, strict=False):
        into.observe_column(column, count, (needs or {}).get(column.path))
    for path, count in zip(_maps(schema), held[len(schema.columns) :], strict=True):
        into.observe_maps(path, count)
