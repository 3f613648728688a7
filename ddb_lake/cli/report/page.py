"""The page of `ddb-lake report`: one HTML text that needs no other file and no network.

`page.html.jinja` is its markup, `report.css` its style, `charts` its figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib import resources
from typing import Any, Literal, NamedTuple, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from ddb_lake.cli.output.quantities import duration_text, size_text
from ddb_lake.cli.report import charts
from ddb_lake.core.operations.count_text import count_text
from ddb_lake.core.values.time_text import time_text
from ddb_lake.core.verify.outcome import urgency
from ddb_lake.pipeline.read.check_results import CheckResult, count_colors, summary_text
from ddb_lake.pipeline.read.overview import TableOverview
from ddb_lake.pipeline.read.status import TableStatus

CHARTED_TABLES = 50
"""Later tables, in the order of the configuration, have figures without charts: the page stays fast."""

Level: TypeAlias = Literal["good", "note", "bad", "idle"]


class Badge(NamedTuple):
    """A state in a word or two, and the level that decides its colour."""

    level: Level
    text: str


def page(warehouse: str, now: datetime, tables: Sequence[TableOverview]) -> str:
    """The HTML of the page. `now` is printed as the time of the report."""
    style = resources.files("ddb_lake.cli.report").joinpath("report.css").read_text(encoding="utf-8")
    with_lag = sum(table.status.lag_s is not None for table in tables)
    return _template().render(
        warehouse=warehouse,
        now=now,
        tables=tables,
        style=Markup(style),
        script=Markup(charts.script()),
        totals=_totals(tables),
        problems=_problems(tables),
        levels={"red": "bad", "yellow": "note"},
        lags=charts.lags(tables) if with_lag > 1 else None,
        charts=[_charts(table, number) for number, table in enumerate(tables)],
    )


def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("ddb_lake.cli", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "size": size_text,
        "duration": duration_text,
        "time": _time,
        "facts": _facts,
        "checks": _checks,
        "quarantine": _quarantine,
        "verification": _verification,
        "verified": _verified,
    }
    return environment.get_template("page.html.jinja")


def _time(time_us: int | None) -> str:
    return time_text(time_us, unit="s")


def _totals(tables: Sequence[TableOverview]) -> list[tuple[str, str]]:
    """The cards at the top of the page."""
    results = [result for table in tables for result in table.checks]
    verified = sum(_verification(table).level == "good" for table in tables)
    return [
        ("Tables", f"{len(tables):,}"),
        ("Rows", f"{sum(table.status.rows for table in tables):,}"),
        ("Change records", f"{sum(table.status.changes for table in tables):,}"),
        ("Size", size_text(sum(table.status.bytes for table in tables))),
        ("Quarantined", f"{sum(table.status.quarantined for table in tables):,}"),
        ("Verified equal", f"{verified} of {len(tables)}"),
        *((f"Checks {color}", f"{count:,}") for color, count in count_colors(results).items()),
    ]


def _charts(table: TableOverview, number: int) -> list[charts.Chart]:
    if number >= CHARTED_TABLES:
        return []
    return charts.volumes(table, number) + ([charts.rows(table, number)] if table.rows else [])


def _facts(status: TableStatus) -> list[tuple[str, str]]:
    return [
        ("Columns", f"{status.columns:,}"),
        ("Files", f"{status.files:,} and {status.delete_files:,} of deletes"),
        ("Deleted rows", f"{status.deleted_rows:,}"),
        ("Objects ingested", f"{status.objects:,}"),
        ("First change", _time(status.first_change_us)),
        ("Newest export", _time(status.base_export_us)),
        ("Last commit", _time(status.last_commit_us)),
        ("Waiting to be applied", count_text(status.pending_batches, "commit")),
    ]


def _checks(table: TableOverview) -> Badge:
    levels: dict[str, Level] = {"red": "bad", "yellow": "note", "green": "good"}
    return Badge(levels[table.checks[0].color] if table.checks else "note", summary_text(table.checks))


def _problems(tables: Sequence[TableOverview]) -> list[tuple[str, CheckResult]]:
    """The checks of all tables that are not green, the worst first, with their tables."""
    found = [(table.status.table, result) for table in tables for result in table.checks if result.color != "green"]
    return sorted(found, key=lambda entry: (urgency(entry[1].color), entry[0], entry[1].name))


def _quarantine(table: TableOverview) -> Badge:
    count = table.status.quarantined
    return Badge("note", f"{count:,} quarantined") if count else Badge("good", "none quarantined")


def _verification(table: TableOverview) -> Badge:
    if table.verification is None:
        return Badge("idle", "not verified")
    levels: dict[str, Level] = {"equal": "good", "in doubt": "note", "different": "bad"}
    outcome = str(table.verification["outcome"])
    day = time_text(table.verification.get("read_to_us"), "undated", "min").partition(" ")[0]
    return Badge(levels.get(outcome, "idle"), f"{outcome} ({table.verification['strength']}, {day})")


def _verified(document: dict[str, Any]) -> str:
    """The document of a verification in one line."""
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in document["kinds"].items() if count) or "no differences"
    if document.get("doubtful"):
        kinds += f" ({document['doubtful']:,} of them are still being judged)"
    compared = (
        f"{count_text(document['compared'], 'key')} compared"
        if document["compared"]
        else f"{count_text(document['rows'], 'row')} counted"
    )
    read_at = _time(document.get("read_to_us"))
    return f"{document['outcome']}: {compared} with {document['source']}, {kinds}; read at {read_at}"
