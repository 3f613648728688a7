"""The state of `current` and of the changelog: how far each has come, as table properties of the same commit as the rows.

Property names and JSON fields are a stored format, which earlier releases have written and other readers rely on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pyiceberg.table import Table

from ddb_lake.core.capture.conservation import Anchor
from ddb_lake.core.capture.export_windows import Window, packed, unpacked
from ddb_lake.core.capture.gaps import Gap, Observation
from ddb_lake.core.merge.ordering import snapshot_cutoff_us
from ddb_lake.core.schema.misfits import KnownMisfits
from ddb_lake.core.schema.table_schema import TableSchema
from ddb_lake.core.verify.continuity import Examined
from ddb_lake.errors import DamagedError
from ddb_lake.lake.commit import check_newest_commit
from ddb_lake.lake.lake_format import REFUSED_BY_FORMAT_1, format_properties

PREFIX = "ddb_lake."


@dataclass(frozen=True, slots=True)
class LoadedExport:
    """One full export in the lake.

    Attributes:
        export_us: the instant of the export, microseconds since the epoch.
        items: the number of items that its manifest states.
        branch: the branch of `current` that has the rows of the export alone.
        schema: the columns of those rows.
        table_id: the id of the source table, if the export states it.
        rejected: the number of `items` whose lines are in the quarantine because they hold no valid item.
        scan_until_us: for a scan, the time before which its last item was read; its first item was read after `export_us`. None
            for an export.
        uri: its `manifest-summary.json`, from which it was loaded; None if an earlier release loaded it.
        left_out: the number of `items` that the table's filter left out.
        erased: the number of `items` that the branch lacks because their keys were erased, before the load or after it.
    """

    export_id: str
    export_arn: str
    export_us: int
    items: int
    branch: str
    schema: TableSchema
    table_id: str | None = None
    rejected: int = 0
    scan_until_us: int | None = None
    uri: str | None = None
    left_out: int = 0
    erased: int = 0

    @property
    def exact_from_us(self) -> int:
        """The first instant whose state follows from these rows and the changes after `export_us`."""
        return self.export_us if self.scan_until_us is None else self.scan_until_us


@dataclass(frozen=True, slots=True)
class CurrentState:
    """The state of `current`: its exports, and how much of the changelog is applied.

    Attributes:
        schema: the columns of items.
        applied_batch: the greatest batch of the changelog that is applied (inclusive).
        exports: the full exports that are loaded.
        snapshot_cutoff_us: the snapshot cutoff of the base (inclusive), microseconds since the epoch; None without a base.
        protection: the rules of protected attributes by which the first rows were made (`Protection.stored`). Rows that were made by
            other rules later do not change it; a rebuild does.
        misfits: the values that no column holds, as the commits counted them; None if they did not.
    """

    schema: TableSchema
    applied_batch: int = 0
    exports: tuple[LoadedExport, ...] = ()
    snapshot_cutoff_us: int | None = None
    protection: Mapping[str, str] = field(default_factory=dict)
    misfits: KnownMisfits | None = None

    @property
    def base(self) -> LoadedExport | None:
        """The newest export, on which changes are applied; None without an export."""
        return max(self.exports, key=lambda e: (e.export_us, e.export_id), default=None)

    def base_at(self, time_us: int) -> LoadedExport | None:
        """The newest export from which the state at `time_us` follows; None if there is none.

        That is an export of an instant at or before `time_us`, or a scan that ended at or before it.
        """
        earlier = [e for e in self.exports if e.exact_from_us <= time_us]
        return max(earlier, key=lambda e: (e.export_us, e.export_id), default=None)

    def properties(self) -> dict[str, str]:
        """The state as table properties."""
        return {
            PREFIX + "schema": _dump(self.schema.to_json()),
            PREFIX + "applied-batch": str(self.applied_batch),
            **exports_properties(self.exports),
            PREFIX + "horizon-us": _dump(self.snapshot_cutoff_us),
            PREFIX + "protection": _dump(self.protection),
            PREFIX + "tombstones": REFUSED_BY_FORMAT_1,
            **misfit_properties(self.misfits),
            **format_properties(),
        }

    @classmethod
    def of(cls, table: Table) -> CurrentState:
        """The state that the properties of a table hold. Raises DamagedError if another tool rolled its rows back."""
        check_newest_commit(table)
        return cls.from_properties(table.properties)

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> CurrentState:
        """The state in table properties. Properties that are missing have the values of an empty table."""
        exports = [
            LoadedExport(**{**e, "schema": TableSchema.from_json(e["schema"])})
            for e in _load(properties, "exports", [])
        ]
        document = _load(properties, "schema", {"key": [], "columns": []})
        schema = TableSchema.from_json(document)
        if (
            "retired" not in document
        ):  # written by an earlier release: the only retired names are in the exports' columns
            for export in reversed(exports):
                schema = schema.with_names_of(export.schema)
        return cls(
            schema=schema,
            applied_batch=_load(properties, "applied-batch", 0),
            exports=tuple(exports),
            snapshot_cutoff_us=_load(properties, "horizon-us", None),
            protection=_load(properties, "protection", {}),
            misfits=known_misfits(properties),
        )


@dataclass(frozen=True, slots=True)
class NamedExport:
    """A full export that is loaded, as the changelog names it. If `current` is lost, this is the only record of it.

    Attributes:
        uri: as in `LoadedExport`.
    """

    export_id: str
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class ChangesState:
    """The state of the changelog: its last commit, and the kinds of its records.

    Attributes:
        key: the key attributes.
        batch: the number of the last commit that added records.
        records: the number of change records.
        first_change_us: the least time of a change record, microseconds since the epoch. Assertions do not count.
        last_change_us: the greatest time of a change record.
        sources: the distinct orders of the records: `time` (KDS, flattened), `assertion`, or the ARN of a stream.
        gaps: intervals whose records may be missing, open and repaired.
        observed: the last observation of the source's stream.
        windows: the windows of loaded incremental exports, in order (`core.capture.export_windows.remembered`).
        continuity: the records whose continuity was examined without finding a break; None before the first examination.
        balanced: up to when the records that AWS counted were in the lake; None if that was not compared yet.
        exports: the full exports that are loaded. `current` has each of them, unless it lost commits.
        protection: as in `CurrentState`, of the records.
    """

    key: tuple[str, ...] = ()
    batch: int = 0
    records: int = 0
    first_change_us: int | None = None
    last_change_us: int | None = None
    sources: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    observed: Observation | None = None
    windows: tuple[Window, ...] = ()
    continuity: Examined | None = None
    balanced: Anchor | None = None
    exports: tuple[NamedExport, ...] = ()
    protection: Mapping[str, str] = field(default_factory=dict)

    def naming(self, loaded: Sequence[LoadedExport]) -> ChangesState:
        """This state with the names of these exports too."""
        names = {export.export_id: export for export in self.exports}
        names |= {export.export_id: NamedExport(export.export_id, export.uri) for export in loaded}
        return replace(self, exports=tuple(names[identifier] for identifier in sorted(names)))

    def snapshot_cutoff_us(self, export_us: int, clock_skew_us: int) -> int:
        """The snapshot cutoff of an export, given these records (`core.merge.ordering.snapshot_cutoff_us`)."""
        whole_seconds = not {"time", "assertion"}.issuperset(self.sources)
        return snapshot_cutoff_us(export_us, self.first_change_us, clock_skew_us, whole_seconds=whole_seconds)

    def properties(self) -> dict[str, str]:
        """The state as table properties."""
        return {
            PREFIX + "key": _dump(list(self.key)),
            PREFIX + "batch": str(self.batch),
            PREFIX + "records": str(self.records),
            PREFIX + "first-change-us": _dump(self.first_change_us),
            PREFIX + "last-change-us": _dump(self.last_change_us),
            PREFIX + "sources": _dump(list(self.sources)),
            PREFIX + "gaps": _dump([gap.to_json() for gap in self.gaps]),
            PREFIX + "observed": _dump(self.observed.to_json() if self.observed else None),
            PREFIX + "windows": _dump(packed(self.windows)),
            PREFIX + "continuity": _dump(self.continuity.to_json() if self.continuity else None),
            PREFIX + "balanced": _dump(self.balanced.to_json() if self.balanced else None),
            PREFIX + "loaded-exports": _dump([asdict(export) for export in self.exports]),
            PREFIX + "protection": _dump(self.protection),
        }

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> ChangesState:
        """The state in table properties. Properties that are missing have the values of an empty table."""
        observed, balanced = _load(properties, "observed", None), _load(properties, "balanced", None)
        continuity = _load(properties, "continuity", None)
        return cls(
            key=tuple(_load(properties, "key", [])),
            batch=_load(properties, "batch", 0),
            records=_load(properties, "records", 0),
            first_change_us=_load(properties, "first-change-us", None),
            last_change_us=_load(properties, "last-change-us", None),
            sources=tuple(_load(properties, "sources", [])),
            gaps=tuple(Gap.from_json(gap) for gap in _load(properties, "gaps", [])),
            observed=Observation.from_json(observed) if observed else None,
            windows=unpacked(_load(properties, "windows", [])),
            continuity=Examined.from_json(continuity) if continuity else None,
            balanced=Anchor.from_json(balanced) if balanced else None,
            exports=tuple(NamedExport(**export) for export in _load(properties, "loaded-exports", [])),
            protection=_load(properties, "protection", {}),
        )


def known_misfits(properties: Mapping[str, str]) -> KnownMisfits | None:
    """The misfits in table properties of `current` or of an entity; None if they were not counted."""
    document = _load(properties, "misfits", None)
    return None if document is None else KnownMisfits.from_json(document)


def misfit_properties(known: KnownMisfits | None) -> dict[str, str]:
    """Misfits as table properties."""
    return {PREFIX + "misfits": _dump(None if known is None else known.to_json())}


def current_state(table: Table | None) -> CurrentState | None:
    """The state of `current`; None if there is no such table."""
    return None if table is None else CurrentState.of(table)


def changes_state(table: Table | None) -> ChangesState:
    """The state of the changelog; that of an empty changelog if there is no such table.

    Raises DamagedError if another tool rolled its rows back.
    """
    if table is None:
        return ChangesState()
    check_newest_commit(table)
    return ChangesState.from_properties(table.properties)


def exports_without_commit(state: CurrentState | None, log: ChangesState) -> tuple[NamedExport, ...]:
    """The full exports that the changelog names and that the state of `current` lacks. None: there is no `current`."""
    loaded = {export.export_id for export in state.exports} if state is not None else set()
    return tuple(export for export in log.exports if export.export_id not in loaded)


def lost_exports(table: Table) -> tuple[LoadedExport, ...]:
    """The full exports that are loaded, and whose branch `current` does not have any more: another engine dropped it."""
    return tuple(export for export in CurrentState.of(table).exports if export.branch not in table.metadata.refs)


def lost_branch(table: Table, export: LoadedExport) -> DamagedError:
    """The error that the branch of an export is not there."""
    name = table.name()[-1]
    return DamagedError(
        f"its branch {export.branch}, which has the rows of the export, was dropped",
        uri=export.uri or f"export {export.export_id}",
        table=name,
        hint=f"`ddb-lake load {name} --export {export.uri or 'URI'}` restores it from the export",
    )


def base_export(table: Table | None) -> LoadedExport | None:
    """The newest full export in `current`; None if there is no such table, or it has none."""
    state = current_state(table)
    return None if state is None else state.base


def exports_properties(exports: Iterable[LoadedExport]) -> dict[str, str]:
    """The loaded exports as the table property of `CurrentState`."""
    return {PREFIX + "exports": _dump([_export_json(e) for e in exports])}


def _export_json(export: LoadedExport) -> dict[str, Any]:
    """An export as JSON, without the retired column names, which the table's schema has."""
    return {**asdict(export), "schema": replace(export.schema, retired=()).to_json()}


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _load(properties: Mapping[str, str], name: str, default: Any) -> Any:
    text = properties.get(PREFIX + name)
    return default if text is None else json.loads(text)
