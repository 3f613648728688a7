"""What a table's commits carry besides rows: its position in the flow, as table properties of the same commit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyiceberg.table import Table

from ddb_lake.core.capture.export_windows import Window, packed, unpacked
from ddb_lake.core.capture.gaps import Gap, Observation
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.lake.sidecar import Sidecar

PREFIX = "ddb_lake."


@dataclass(frozen=True, slots=True)
class LoadedExport:
    """One full export in the lake. Its rows alone are the table's branch `branch`.

    `rejected`: the number of its `items` whose lines are in the quarantine because they hold no valid item.
    """

    export_id: str
    export_arn: str
    export_us: int
    items: int
    branch: str
    schema: TableSchema
    table_id: str | None = None
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class CurrentState:
    """State of `current`: which exports it has, which of the changelog it has applied, and its tombstones.

    `applied_batch`: greatest batch of the changelog that is in. `applied_snapshot`: the changelog's snapshot then.
    `snapshot_cutoff_us`: the base's snapshot cutoff (inclusive), None without a base.
    """

    schema: TableSchema
    applied_batch: int = 0
    applied_snapshot: int | None = None
    exports: tuple[LoadedExport, ...] = ()
    snapshot_cutoff_us: int | None = None
    tombstones: Sidecar = field(default_factory=Sidecar)

    @property
    def base(self) -> LoadedExport | None:
        """The newest export: the base on which changes are applied."""
        return max(self.exports, key=lambda e: (e.export_us, e.export_id), default=None)

    def base_at(self, time_us: int) -> LoadedExport | None:
        """The newest export taken at or before `time_us`."""
        earlier = [e for e in self.exports if e.export_us <= time_us]
        return max(earlier, key=lambda e: (e.export_us, e.export_id), default=None)

    def properties(self) -> dict[str, str]:
        """As table properties."""
        return {
            PREFIX + "schema": _dump(self.schema.to_json()),
            PREFIX + "applied-batch": str(self.applied_batch),
            PREFIX + "applied-snapshot": _dump(self.applied_snapshot),
            PREFIX + "exports": _dump([_export_json(e) for e in self.exports]),
            PREFIX + "horizon-us": _dump(self.snapshot_cutoff_us),
            PREFIX + "tombstones": _dump(self.tombstones.to_json()),
        }

    @classmethod
    def of(cls, table: Table) -> CurrentState:
        """The state that the properties of a table hold."""
        return cls.from_properties(table.properties)

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> CurrentState:
        """The inverse of `properties`."""
        exports = [
            LoadedExport(**{**e, "schema": TableSchema.from_json(e["schema"])})
            for e in _load(properties, "exports", [])
        ]
        document = _load(properties, "schema", {"key": [], "columns": []})
        schema = TableSchema.from_json(document)
        if "retired" not in document:  # of an earlier release: only the names of the exports' columns are known
            for export in reversed(exports):
                schema = schema.knowing(export.schema)
        return cls(
            schema,
            _load(properties, "applied-batch", 0),
            _load(properties, "applied-snapshot", None),
            tuple(exports),
            _load(properties, "horizon-us", None),
            Sidecar.from_json(_load(properties, "tombstones", [])),
        )

    def with_schema(self, schema: TableSchema) -> CurrentState:
        """The same state with another schema."""
        return replace(self, schema=schema)


@dataclass(frozen=True, slots=True)
class ChangesState:
    """State of the changelog: the number of its last commit, what it has ingested, and what kinds of records it holds.

    `first_change_us` / `last_change_us`: least and greatest time of a change record (assertions do not count).
    `sources`: the distinct orders its records come in: `time` (KDS, flattened), `assertion`, or a Streams ARN.
    `gaps`: ranges in which records may be missing, open and repaired. `observed`: how the source's stream was last seen.
    `windows`: those of the loaded incremental exports, in order (`core.capture.export_windows.remembered`).
    """

    key: tuple[str, ...] = ()
    batch: int = 0
    records: int = 0
    first_change_us: int | None = None
    last_change_us: int | None = None
    sources: tuple[str, ...] = ()
    ledger: Sidecar = field(default_factory=Sidecar)
    gaps: tuple[Gap, ...] = ()
    observed: Observation | None = None
    windows: tuple[Window, ...] = ()

    def properties(self) -> dict[str, str]:
        """As table properties."""
        return {
            PREFIX + "key": _dump(list(self.key)),
            PREFIX + "batch": str(self.batch),
            PREFIX + "records": str(self.records),
            PREFIX + "first-change-us": _dump(self.first_change_us),
            PREFIX + "last-change-us": _dump(self.last_change_us),
            PREFIX + "sources": _dump(list(self.sources)),
            PREFIX + "ledger": _dump(self.ledger.to_json()),
            PREFIX + "gaps": _dump([gap.to_json() for gap in self.gaps]),
            PREFIX + "observed": _dump(self.observed.to_json() if self.observed else None),
            PREFIX + "windows": _dump(packed(self.windows)),
        }

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> ChangesState:
        """The inverse of `properties`."""
        observed = _load(properties, "observed", None)
        return cls(
            tuple(_load(properties, "key", [])),
            _load(properties, "batch", 0),
            _load(properties, "records", 0),
            _load(properties, "first-change-us", None),
            _load(properties, "last-change-us", None),
            tuple(_load(properties, "sources", [])),
            Sidecar.from_json(_load(properties, "ledger", [])),
            tuple(Gap.from_json(gap) for gap in _load(properties, "gaps", [])),
            Observation.from_json(observed) if observed else None,
            unpacked(_load(properties, "windows", [])),
        )


def current_state(table: Table | None) -> CurrentState | None:
    """The state of `current`; None if there is no such table."""
    return None if table is None else CurrentState.of(table)


def changes_state(table: Table | None) -> ChangesState:
    """The state of the changelog; that of an empty changelog if there is no such table."""
    return ChangesState() if table is None else ChangesState.from_properties(table.properties)


def base_export(table: Table | None) -> LoadedExport | None:
    """The newest full export in `current`; None if there is no such table, or it has none."""
    state = current_state(table)
    return None if state is None else state.base


def sidecars_of(properties: Mapping[str, str]) -> tuple[Sidecar, Sidecar]:
    """The tombstones and the ledger that a table's properties name; each table has at most one of them."""
    return CurrentState.from_properties(properties).tombstones, ChangesState.from_properties(properties).ledger


def _export_json(export: LoadedExport) -> dict[str, Any]:
    """An export's columns, without the names that the table's schema keeps."""
    return {**asdict(export), "schema": replace(export.schema, retired=()).to_json()}


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _load(properties: Mapping[str, str], name: str, default: Any) -> Any:
    text = properties.get(PREFIX + name)
    return default if text is None else json.loads(text)
