"""What a verification found, and where the last report of a table is kept: `repair` begins with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import orjson

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.core.layout.table_names import REPORTS_FOLDER
from ddb_lake.core.values.change_record import Item
from ddb_lake.core.verify.verdicts import Difference
from ddb_lake.errors import UsageError
from ddb_lake.pipeline.open_lake import Lake

Strength: TypeAlias = Literal["counts", "sample", "full"]
Outcome: TypeAlias = Literal["equal", "in doubt", "different"]
LAST = "verify.json"
_FIGURES = (
    "table",
    "strength",
    "source",
    "outcome",
    "read_from_us",
    "read_to_us",
    "watermark_us",
    "rows",
    "source_items",
    "compared",
    "explained",
    "doubtful",
    "kinds",
    "seconds",
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a verification takes from the source, as far as can be said beforehand, or took.

    `read_units`: strongly consistent, of 4 KB. `export_gb` and `usd`: of a new export, at list price.
    """

    read_units: float = 0.0
    export_gb: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found. Times are UTC microseconds.

    `source`: what the lake was compared with, read within [`read_from_us`, `read_to_us`], which has all that clocks may
    be off. `compared`: keys looked at; `explained`: of them, those that differ because they changed around the reading.
    `doubtful`: of the differences, those that a change under way may still explain. `differences`: at most
    `pipeline.verify.evidence.MAX_LISTED` of them. `source_items`: as DescribeTable or the manifest counts them.
    """

    table: str
    strength: Strength
    source: str
    outcome: Outcome
    read_from_us: int | None = None
    read_to_us: int | None = None
    watermark_us: int | None = None
    rows: int = 0
    source_items: int | None = None
    compared: int = 0
    explained: int = 0
    doubtful: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """All differences, listed or not."""
        return sum(self.kinds.values())

    def to_json(self) -> dict[str, Any]:
        """The document of `ddb-lake verify --json`, which `ddb-lake repair --keys-from` reads."""
        return {name: getattr(self, name) for name in _FIGURES} | {
            "total": self.total,
            "differences": [found.to_json() for found in self.differences],
            "cost": {"read_units": self.cost.read_units, "export_gb": self.cost.export_gb, "usd": self.cost.usd},
            "notes": list(self.notes),
        }


def keep_report(lake: Lake, report: Report) -> None:
    """Keep a report as the table's last one, in the warehouse."""
    _place(lake, report.table).put(LAST, orjson.dumps(report.to_json()))


def last_report(lake: Lake, name: str) -> dict[str, Any] | None:
    """The document of the table's last report; None if it was never verified."""
    data, _ = _place(lake, name).load(LAST)
    return None if data is None else orjson.loads(data)


def keys_of(document: Mapping[str, Any], name: str) -> list[Item]:
    """The keys at fault that a report names. Raises UsageError for one of another table, or that is none."""
    if document.get("table") != name or not isinstance(document.get("differences"), list):
        raise UsageError(f"not a report of table {name}: expected the document of `ddb-lake verify {name} --json`")
    return [found["key"] for found in document["differences"]]


def _place(lake: Lake, name: str) -> Landing:
    return Landing(lake.objects, f"{lake.catalog.warehouse}/{REPORTS_FOLDER}/{name}")
