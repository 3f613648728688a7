"""A table in folders whose changes are written one by one: each record states the item before it and the item after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ddb_lake.core.values.change_record import Item
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.load.load import load_export
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake_tests.support.envelopes import Change, compact, kds
from ddb_lake_tests.support.export_files import MINUTE_US, T0_US, full, item

KEY = ("id",)


@dataclass
class Trail:
    """The table and the records that are not landed yet.

    Times are in minutes from the time of the export, `T0_US`.
    """

    folder: Path
    items: dict[str, Item] = field(default_factory=dict)
    pending: list[dict[str, Any]] = field(default_factory=list)
    objects: int = 0

    def put(self, key: str, minute: float, *, lost: bool = False, **attributes: Any) -> Item:
        """Write an item; `lost`: no record of the change lands."""
        return self.write(key, item(key, **attributes), minute, lost=lost)

    def write(self, key: str, after: Item | None, minute: float, *, lost: bool = False) -> Item:
        """Write or remove an item. Returns the record, which the caller may still change."""
        before = self.items.get(key)
        event = "INSERT" if before is None else "REMOVE" if after is None else "MODIFY"
        at_us = T0_US + round(minute * MINUTE_US)
        record = kds(Change(event, {"id": {"S": key}}, after, before, at_us, f"{key} {minute} {self.objects}"))
        if not lost:
            self.pending.append(record)
        if after is None:
            del self.items[key]
        else:
            self.items[key] = after
        return record

    def land(self) -> Path:
        """Write the pending records to an object."""
        self.objects += 1
        path = self.folder / "landing" / f"object-{self.objects}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\n".join(map(compact, self.pending)))
        self.pending = []
        return path

    def apply(self, lake: Lake, *paths: Path) -> None:
        """Apply objects; by default, land the pending records and apply their object."""
        apply_objects(lake, "orders", [str(path) for path in paths or (self.land(),)])

    def load(self, lake: Lake, minute: float = 0, items: Sequence[Item] | None = None, reject: bool = False) -> str:
        """Load a full export, by default of the items as they are; returns its id. `reject`: of lines without an item."""
        export = full(list(self.items.values()) if items is None else items, at_us=T0_US + round(minute * MINUTE_US))
        return load_export(lake, "orders", str(export.write(self.folder / "exports")), reject=reject).export_id
