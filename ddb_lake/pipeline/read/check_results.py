"""The last result of each check of a table, in the warehouse: `status`, `report` and the overview read it, without Dagster.

Each evaluation of a check replaces its result (`checks.kept`). A result that is too old is unknown, and so is a check that
was never evaluated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from ddb_lake.aws.landing_writer import Landing
from ddb_lake.core.layout.table_names import REPORTS_FOLDER
from ddb_lake.core.operations.retry_policy import retry_commit
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.verify.outcome import WORST_FIRST, Color, unknown_text, urgency
from ddb_lake.pipeline.open_lake import Lake

DOCUMENT = "checks.json"

NOT_EVALUATED = "not evaluated"
"""The summary of a table none of whose checks was ever evaluated."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The last result of one check of a table.

    Attributes:
        asset: the stage on whose asset Dagster shows the check.
        check: its name.
        question: what it answers, a clause that begins with "whether".
        color: see `core.verify.outcome`. Yellow if it was never evaluated.
        text: what was found, in sentences, without values of items.
        at_us: the time of the evaluation (UTC microseconds); None if it was never evaluated.
        valid_s: after this many seconds the result is unknown; None if only a new run of the asset can change it.
    """

    asset: str
    check: str
    question: str
    color: Color = "yellow"
    text: str = ""
    at_us: int | None = None
    valid_s: int | None = None

    @property
    def name(self) -> str:
        """The name with the stage: names of checks are unique only for an asset."""
        return f"{self.asset}/{self.check}"

    def seen_at(self, now_us: int) -> CheckResult:
        """The result as it is to be shown at a time: yellow if the check was never evaluated, or too long ago."""
        if self.at_us is None:
            return replace(
                self, text=unknown_text(self.question, "the check was never evaluated; a run in Dagster evaluates it")
            )
        if self.valid_s is None or now_us - self.at_us <= self.valid_s * 1_000_000:
            return self
        found = f"it was last evaluated at {time_text(self.at_us, unit='min')}, and was {self.color} then"
        color: Color = "red" if self.color == "red" else "yellow"
        return replace(self, color=color, text=unknown_text(self.question, found))


def keep_results(lake: Lake, name: str, known: Iterable[CheckResult], found: Iterable[CheckResult]) -> None:
    """Replace the results of some checks.

    Args:
        lake: the open lake.
        name: the table.
        known: all checks of the table as they are before their first evaluation. Results of other checks are dropped.
        found: the new results.

    Raises:
        CommitConflict: another process replaced the document in each attempt.
    """
    place, checks, new = _place(lake, name), list(known), {result.name: result for result in found}

    def attempt() -> None:
        data, version = place.load(DOCUMENT)
        kept = {result.name: result for result in _results(data)} | new
        results = [kept.get(check.name, check) for check in checks]
        place.replace(DOCUMENT, orjson.dumps({"checks": [asdict(result) for result in results]}), version)

    retry_commit(attempt)


def check_results(lake: Lake, name: str) -> tuple[CheckResult, ...]:
    """The last results of a table's checks, the worst first; none if no check was ever evaluated."""
    data, _ = _place(lake, name).load(DOCUMENT)
    now_us = int(lake.now().timestamp() * 1_000_000)
    return worst_first(result.seen_at(now_us) for result in _results(data))


def worst_first(results: Iterable[CheckResult]) -> tuple[CheckResult, ...]:
    """Results by color, red ones first."""
    return tuple(sorted(results, key=lambda result: (urgency(result.color), result.name)))


def count_colors(results: Sequence[CheckResult]) -> dict[Color, int]:
    """The number of results of each color, the worst color first."""
    counts = Counter(result.color for result in results)
    return {color: counts[color] for color in WORST_FIRST}


def summary_text(results: Sequence[CheckResult]) -> str:
    """The results in a few words: the number of red, yellow and green checks."""
    counts = [f"{count} {color}" for color, count in count_colors(results).items() if count]
    return ", ".join(counts) or NOT_EVALUATED


def _results(data: bytes | None) -> list[CheckResult]:
    document: dict[str, Any] = {} if data is None else orjson.loads(data)
    return [CheckResult(**entry) for entry in document.get("checks", ())]


def _place(lake: Lake, name: str) -> Landing:
    return Landing(lake.objects, f"{lake.landing}/{REPORTS_FOLDER}/{name}")
