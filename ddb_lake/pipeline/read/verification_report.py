"""The report of a verification. The last one of each table is stored in the warehouse, where `repair` reads it."""

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
    """The estimated cost of a verification, or the cost that it had.

    Attributes:
        read_units: capacity for strongly consistent reads of up to 4 KB each.
        export_gb: the size of a new export.
        usd: its list price.
    """

    read_units: float = 0.0
    export_gb: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification. Times are UTC microseconds.

    Attributes:
        strength: how much was compared.
        source: what the lake was compared with, in words.
        outcome: `equal` without differences, `in doubt` if no difference is certain, else `different`.
        read_from_us: the source was read at or after this instant, whatever the clocks may be off.
        read_to_us: the source was read at or before this instant.
        watermark_us: the greatest instant up to which the lake has changes.
        rows: living rows of the lake.
        source_items: the number of items according to DescribeTable.
        compared: the number of keys that were compared.
        explained: the number of those that differ because of a change at or after the time of the read, which the lake has.
        doubtful: the number of differences that a change under way may explain.
        kinds: the number of all differences by kind (`core.verify.verdicts.DifferenceKind`).
        differences: at most `pipeline.verify.compare.MAX_LISTED` of them.
        cost: what reading the source took.
        changed_rules: the settings with which the files were not written (`pipeline.protection.changed_rules`), so that a rebuild and
            no repair is the remedy.
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
    changed_rules: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The number of all differences, listed or not."""
        return sum(self.kinds.values())

    def to_json(self) -> dict[str, Any]:
        """The document that `ddb-lake verify --json` prints and `ddb-lake repair --keys-from` reads."""
        return {name: getattr(self, name) for name in _FIGURES} | {
            "total": self.total,
            "differences": [found.to_json() for found in self.differences],
            "cost": {"read_units": self.cost.read_units, "export_gb": self.cost.export_gb, "usd": self.cost.usd},
            "notes": list(self.notes),
            "changed_rules": list(self.changed_rules),
        }


def report_of(document: Mapping[str, Any]) -> Report:
    """The report that `Report.to_json` wrote."""
    figures: dict[str, Any] = {name: document[name] for name in _FIGURES}
    differences = tuple(Difference(**found) for found in document["differences"])
    return Report(
        **figures,
        differences=differences,
        cost=Cost(**document["cost"]),
        notes=tuple(document["notes"]),
        changed_rules=tuple(document.get("changed_rules", ())),
    )


def keep_report(lake: Lake, report: Report) -> None:
    """Store a report in the warehouse, as the table's last one."""
    _place(lake, report.table).put(LAST, orjson.dumps(report.to_json()))


def last_report(lake: Lake, name: str) -> dict[str, Any] | None:
    """The document of the table's last report; None if the table was never verified."""
    data, _ = _place(lake, name).load(LAST)
    return None if data is None else orjson.loads(data)


def keys_of(document: Mapping[str, Any], name: str) -> list[Item]:
    """The keys that differ according to the document of a report. Raises UsageError unless it is a report of the table."""
    if document.get("table") != name or not isinstance(document.get("differences"), list):
        raise UsageError(f"not a report of table {name}: expected the document of `ddb-lake verify {name} --json`")
    return [found["key"] for found in document["differences"]]


def _place(lake: Lake, name: str) -> Landing:
    return Landing(lake.objects, f"{lake.landing}/{REPORTS_FOLDER}/{name}")
