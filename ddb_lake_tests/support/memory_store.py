"""An object store in memory that counts its requests, and lakes and sensors' planners on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.aws.objects import Level, ObjectRef, ObjectStore
from ddb_lake.config import LakeSettings, parse_settings
from ddb_lake.executors import EXECUTORS
from ddb_lake.lake.catalog import LakeCatalog
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.maintain.compact import compact_table
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.plan.cursor import SensorCursor
from ddb_lake.pipeline.plan.planner import Busy, Plan, Planner, Tick
from ddb_lake.pipeline.plan.work import WorkKind

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)


@dataclass
class MemoryStore(ObjectStore):
    """Objects by URI, listed in key order as S3 lists them. `requests`: how many LISTs of 1,000 keys that took."""

    objects: dict[str, tuple[bytes, str, datetime]] = field(default_factory=dict)
    requests: int = 0
    broken: set[str] = field(default_factory=set)

    def put(self, uri: str, data: bytes, at: datetime = NOW) -> str:
        """Write an object; another version of it if it is there."""
        before = self.objects.get(uri)
        version = f"v{int(before[1][1:]) + 1 if before else 1}"
        self.objects[uri] = (data, version, at)
        return uri

    def list_span(self, uri: str, first: str, last: str) -> Iterator[ObjectRef]:
        if any(uri.startswith(prefix) for prefix in self.broken):
            raise PermissionError(f"{uri}: access denied")
        found = sorted(key for key in self.objects if key.startswith(uri) and key > first)
        inside = [key for key in found if key < last or key.startswith(last)]
        self.requests += max(1, -(-len(inside) // 1000))
        for key in inside:
            data, version, at = self.objects[key]
            yield ObjectRef(key, version, len(data), int(at.timestamp() * 1e6))

    def list(self, uri: str) -> Iterator[ObjectRef]:
        if any(uri.startswith(prefix) for prefix in self.broken):
            raise PermissionError(f"{uri}: access denied")
        found = sorted(key for key in self.objects if key.startswith(uri))
        for number, key in enumerate(found):
            self.requests += number % 1000 == 0
            data, version, at = self.objects[key]
            yield ObjectRef(key, version, len(data), int(at.timestamp() * 1e6))
        self.requests += not found

    def level(self, uri: str) -> Level | None:
        inside = {key.removeprefix(uri).partition("/")[:2] for key in self.objects if key.startswith(uri)}
        self.requests += 1
        if any(uri.startswith(prefix) for prefix in self.broken):
            raise PermissionError(f"{uri}: access denied")
        if len(inside) > 1000:
            return None
        objects = (uri + name for name, slash in sorted(inside) if not slash)
        refs = (
            ObjectRef(key, self.objects[key][1], len(self.objects[key][0]), int(self.objects[key][2].timestamp() * 1e6))
            for key in objects
        )
        return Level(tuple(refs), tuple(f"{uri}{name}/" for name, slash in sorted(inside) if slash))

    def read(self, uri: str) -> bytes:
        return self.objects[uri][0]

    def fetch(self, ref: ObjectRef) -> bytes:
        return self.read(ref.uri)

    def exists(self, uri: str) -> bool:
        return uri in self.objects


class Steps:
    """A lake whose sensor is stepped by hand: `tick` plans as the sensor would, `apply` does what was planned."""

    def __init__(self, folder: Path, *tables: dict[str, Any]) -> None:
        self.store = MemoryStore()
        self.now = NOW
        self.settings: LakeSettings = parse_settings({"warehouse": str(folder), "tables": list(tables)}, "test")
        self.catalog = LakeCatalog(self.settings)
        self.lake = Lake(self.settings, self.catalog, EXECUTORS, store=self.store, now=lambda: self.now)
        self.cursor: str | None = None

    def tick(self, busy: Busy | None = None, kinds: Sequence[WorkKind] = (), **options: Any) -> Plan:
        """One tick of the sensor, whose cursor is passed on as text."""
        cursor = SensorCursor.load(self.cursor)
        plan = Planner(self.lake, kinds).tick(Tick(cursor, busy or Busy(), **options))
        self.cursor = cursor.dump(table.name for table in self.settings.tables)
        return plan

    def apply(self, plan: Plan) -> None:
        """Do what was planned, as a run would."""
        from ddb_lake.pipeline.plan.arrivals import all_prefixes, prefixes_of_hours

        for work in plan.work:
            if work.kind == "compact":
                compact_table(self.lake, work.table)
                continue
            table = self.lake.table(work.table)
            uris = (
                all_prefixes(self.lake, table) if work.everything else prefixes_of_hours(self.lake, table, work.hours)
            )
            apply_objects(self.lake, work.table, uris)


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[Callable[..., Steps]]:
    """`steps({"name": …}, …)`: a lake of these tables on a store in memory."""
    made: list[Steps] = []

    def make(*tables: dict[str, Any]) -> Steps:
        made.append(Steps(tmp_path / f"lake{len(made)}", *tables))
        return made[-1]

    yield make
    for one in made:
        one.catalog.close()
