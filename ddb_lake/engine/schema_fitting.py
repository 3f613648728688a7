"""The schema that fits all items: project the rows, look at the values that the columns did not hold, and adjust.

A first schema comes from a sample. A value that no column holds goes to `_rescued`, so that only rows with rescued
values have to be read to learn what all rows need. If that changes the schema, the rows are projected again.

The result is a function of the set of items. How the rows are projected is up to the caller: in one session
(`SessionProjection`), into files of a table, or in tasks on Spark.
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
    dotted_identity,
    evolve,
    has_contested_names,
    has_mixed_paths,
)
from ddb_lake.core.values.change_record import Item
from ddb_lake.engine.projection import Projection, number_text
from ddb_lake.engine.session import Session
from ddb_lake.engine.sql import carried
from ddb_lake.errors import CheckFailed

Policy: TypeAlias = Literal["add_columns", "rescue", "fail"]
SAMPLE_ROWS = 4_000
MAX_PASSES = 12

UnfittedValues: TypeAlias = Callable[[bool], Inference]
"""Returns `unfitted_values` of projected rows. The argument: whether to count the values in the columns in any case."""

ProjectAndWrite: TypeAlias = Callable[[TableSchema, set[Path]], UnfittedValues]
"""Projects all rows onto a schema and writes them, in place of the rows written before. The paths: where NULL values
are expected."""


def guess(items: Iterable[Item], known: TableSchema, options: SchemaOptions) -> tuple[TableSchema, set[Path]]:
    """A first schema from some items and the columns already known, and the paths of the items' NULL values."""
    sample = Inference(options)
    for item in items:
        sample.observe(item)
    return guess_from(sample, known)


def guess_from(sample: Inference, known: TableSchema) -> tuple[TableSchema, set[Path]]:
    """As `guess`, from the inference of some items. The known columns are added to `sample`."""
    for column in known.columns:
        sample.observe_column(column, 0)
        for length in range(1, len(column.path)):
            sample.observe_maps(column.path[:length], 0)
    return sample.schema(known.key, known), _null_paths(sample)


def fit_schema(first: TableSchema, known: TableSchema, nulls: set[Path], project: ProjectAndWrite) -> TableSchema:
    """The schema that fits all rows.

    Args:
        first: the schema of the first pass.
        known: the schema of the table, whose column names are kept.
        nulls: the paths where NULL values are expected in the first pass.
        project: the last call projected the rows onto the returned schema.
    """
    schema = first
    for _ in range(MAX_PASSES):
        # If several new columns need the same name, the one with the most values gets it, and which types have columns
        # depends on their shares: all rows are counted.
        count_columns = has_contested_names(schema, known) or has_mixed_paths(schema)
        unfitted = project(schema, nulls)(count_columns)
        if not count_columns and not requires_reprojection(unfitted):
            return schema
        nulls = nulls | _null_paths(unfitted)
        wanted = unfitted.schema(schema.key, known)
        if wanted == schema:
            return schema
        schema = wanted
    return schema


def extend_schema(schema: TableSchema, policy: Policy, project: ProjectAndWrite, rows: int = 0) -> TableSchema:
    """An existing schema, with columns for new attributes if `policy` adds them. Existing columns do not change.

    An attribute gets a column of a further type if more than a hundredth of its values among the projected rows have the
    type, and these are more than a hundredth of `rows`.

    Args:
        schema: the schema of the table.
        policy: what to do with new attributes.
        project: the last call projected the rows onto the returned schema.
        rows: the number of rows that the table has.

    Raises:
        CheckFailed: the policy is `fail` and there are new attributes, which the message names.
    """
    nulls: set[Path] = set()
    for _ in range(MAX_PASSES):
        unfitted_values_of = project(schema, nulls)
        if policy == "rescue":
            break
        unfitted = unfitted_values_of(False)
        wider = schema
        if requires_reprojection(unfitted):
            wider = evolve(schema, unfitted.columns(schema.key, schema, rows))
        if wider == schema:
            break
        if policy == "fail":
            known = set(schema.columns)
            new = sorted(dotted_identity(c.identity) for c in wider.columns if c not in known)
            raise CheckFailed(
                f"new attributes {new[:10]} and `schema_evolution: fail`; nothing was committed."
                " Allow them with `schema_evolution: add_columns` or `rescue`"
            )
        schema, nulls = wider, nulls | _null_paths(unfitted)
    return schema


class SessionProjection:
    """Projects rows within one DuckDB session: a `ProjectAndWrite`.

    Args:
        session: the session of the rows.
        options: how attributes become columns.
        project: carries out a projection, which is registered with the session. Returns the relation that holds the
            rows, with the columns and `_rescued`.

    Attributes:
        options: how attributes become columns.
        relation: the relation of the last projection.
    """

    def __init__(self, session: Session, options: SchemaOptions, project: Callable[[Projection], str]) -> None:
        self._session, self.options, self._project = session, options, project
        self.relation = ""

    def __call__(self, schema: TableSchema, nulls: set[Path]) -> UnfittedValues:
        """Project the rows onto a schema."""
        projection = Projection(schema, nulls)
        projection.register(self._session.con)
        self.relation = self._project(projection)
        return lambda count_columns: unfitted_values(self._session, self.relation, schema, self.options, count_columns)


def unfitted_values(
    session: Session, relation: str, schema: TableSchema, options: SchemaOptions, count_columns: bool = False
) -> Inference:
    """The values that the columns of `relation` do not hold, and statistics of the columns where they matter.

    The statistics matter if the unfitted values could change the schema (the type that most values have decides), if
    numbers are stored as text (which may be wider than they need), or if `count_columns` is true.
    """
    inference = rescued_values(session, relation, schema, options)
    if count_columns or statistics_matter(schema, inference):
        counts = column_statistics(session, relation, schema)
        observe_statistics(inference, schema, counts, number_needs(session, relation, schema, inference))
    return inference


def rescued_values(session: Session, relation: str, schema: TableSchema, options: SchemaOptions) -> Inference:
    """The values in `_rescued` of `relation`. Inferences of parts of the rows can be merged."""
    inference = Inference(options)
    if session.value(f"SELECT count(_rescued) FROM {relation}") == 0:
        return inference
    maps = _map_conditions(schema)
    columns = {(c.path, tag): c for c in schema.columns for tag in c.tags}
    flags = "".join(f", {condition}" for condition in maps.values())
    cursor = session.con.cursor()
    cursor.execute(f"SELECT count(*), _rescued{flags} FROM {relation} WHERE _rescued IS NOT NULL GROUP BY ALL")
    while rows := cursor.fetchmany(10_000):
        for count, text, *has_map in rows:
            counted = {path for path, has in zip(maps, has_map, strict=True) if has}
            inference.observe_rescued(orjson.loads(text), count, counted, columns)
    return inference


def statistics_matter(schema: TableSchema, unfitted: Inference) -> bool:
    """Whether the schema that fits depends on the values in the columns, and not only on unfitted values."""
    text_numbers = any(is_number(c) and c.type.endswith(("string", "string>")) for c in schema.columns)
    return text_numbers or requires_reprojection(unfitted)


def requires_reprojection(unfitted: Inference) -> bool:
    """Whether unfitted values could change the schema. NULLs, empty maps and other spellings of stored values cannot."""
    return any(
        any(stats.converted.values()) or {tag for tag, count in stats.counts.items() if count} - {"NULL", "{}"}
        for stats in unfitted.paths.values()
    )


def column_statistics(session: Session, relation: str, schema: TableSchema) -> list[int]:
    """The number of values of each column, then for each flattened map the number of rows that have a column of it."""
    values = [f"count({carried(c.name)})" for c in schema.columns]
    maps = [f"count(*) FILTER (WHERE {condition})" for condition in _map_conditions(schema).values()]
    return list(session.rows(f"SELECT {', '.join([*values, *maps])} FROM {relation}")[0]) if values else []


def observe_statistics(
    inference: Inference,
    schema: TableSchema,
    counts: Sequence[int],
    needs: Mapping[Path, Mapping[Need, int]] | None = None,
) -> None:
    """Add `column_statistics` (`counts`) and `number_needs` to an inference."""
    for column, count in zip(schema.columns, counts, strict=False):
        inference.observe_column(column, count, (needs or {}).get(column.path) if column.tag == "N" else None)
    for path, count in zip(_map_conditions(schema), counts[len(schema.columns) :], strict=True):
        inference.observe_maps(path, count)


def is_number(column: Column) -> bool:
    """Whether a column holds exact numbers, or sets of them."""
    return column.role != "declared" and column.tag in ("N", "NS") and column.type != "double"


def number_needs(
    session: Session, relation: str, schema: TableSchema, unfitted: Inference
) -> dict[Path, Counter[Need]]:
    """The needs of the numbers in columns whose type may change: text columns, and columns with unfitted numbers.

    The result is small: there are at most as many needs as combinations of integer digits and decimals.
    """
    needs: dict[Path, Counter[Need]] = {}
    for column in schema.columns:
        stats = unfitted.paths.get(column.path)
        has_unfitted = stats is not None and stats.counts.get(column.tag)
        if column.tag != "N" or not is_number(column) or not (has_unfitted or column.type == "string"):
            continue
        name = carried(column.name)
        text = f"ddb_canonical_number({name})" if column.type == "string" else number_text(column.type, name)
        integer, decimals = f"split_part(ltrim({text}, '-'), '.', 1)", f"split_part({text}, '.', 2)"
        digits = f"CASE WHEN {integer} = '0' THEN 0 ELSE strlen({integer}) END"
        fits = f"strlen({decimals}) = 0 AND TRY_CAST({text} AS BIGINT) IS NOT NULL"
        rows = session.rows(
            f"SELECT {digits}, strlen({decimals}), {fits}, count(*) FROM {relation} WHERE {name} IS NOT NULL GROUP BY ALL"
        )
        needs[column.path] = Counter({(digits, scale, int64): count for digits, scale, int64, count in rows})
    return needs


def _map_conditions(schema: TableSchema) -> dict[Path, str]:
    """For each flattened map, the SQL condition that a row has a column of it."""
    below: dict[Path, list[str]] = {}
    for column in schema.columns:
        for length in range(1, len(column.path)):
            below.setdefault(column.path[:length], []).append(f"{carried(column.name)} IS NOT NULL")
    return {path: f"greatest({', '.join(conditions)})" for path, conditions in below.items()}


def _null_paths(inference: Inference) -> set[Path]:
    return {path for path, stats in inference.paths.items() if "NULL" in stats.counts}
