"""The report's page: figures, states and charts of a lake as one HTML text that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from html import escape
from importlib import resources
from typing import Any, Literal, TypeAlias

from ddb_lake.cli.output.quantities import duration_text, size_text
from ddb_lake.cli.report import charts as reportcharts
from ddb_lake.core.values.time_text import time_text
from ddb_lake.pipeline.read.overview import TableOverview

CHARTED_TABLES = 50
"""Tables beyond these, in the order of the configuration, have figures and no charts: a page is to stay quick."""

Level: TypeAlias = Literal["good", "note", "bad", "idle"]


def page(warehouse: str, now: datetime, tables: Sequence[TableOverview]) -> str:
    """The page. `now` is told as the time of the report."""
    style = resources.files("ddb_lake.cli.report").joinpath("report.css").read_text(encoding="utf-8")
    body = "\n".join(_body(warehouse, now, tables))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Lake {escape(warehouse)}</title>\n"
        '<link rel="icon" href="data:,">\n'
        f"<style>\n{style}</style>\n<script>{reportcharts.script()}</script>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _body(warehouse: str, now: datetime, tables: Sequence[TableOverview]) -> Iterator[str]:
    yield "<header><h1>Lake</h1>"
    yield f"<p><code>{escape(warehouse)}</code></p><p>{escape(now.strftime('%Y-%m-%d %H:%M UTC'))}</p></header>"
    yield f"<main>{_cards(tables)}<section><h2>Tables</h2>{_table_of_tables(tables)}</section>"
    if sum(one.status.lag_s is not None for one in tables) > 1:
        yield f"<section><h2>Freshness</h2>{reportcharts.lags(tables)}</section>"
    for number, one in enumerate(tables):
        yield from _section(one, number)
    yield "</main>"


def _cards(tables: Sequence[TableOverview]) -> str:
    quarantined = sum(one.status.quarantined for one in tables)
    verified = sum(_verification(one)[0] == "good" for one in tables)
    cards = (
        ("Tables", f"{len(tables):,}"),
        ("Rows", f"{sum(one.status.rows for one in tables):,}"),
        ("Change records", f"{sum(one.status.changes for one in tables):,}"),
        ("Size", size_text(sum(one.status.bytes for one in tables))),
        ("Quarantined", f"{quarantined:,}"),
        ("Verified equal", f"{verified} of {len(tables)}"),
    )
    return (
        '<div class="cards">'
        + "".join(f"<div><b>{value}</b><span>{name}</span></div>" for name, value in cards)
        + "</div>"
    )


def _table_of_tables(tables: Sequence[TableOverview]) -> str:
    rows = [
        [
            f'<a href="#table-{number}">{escape(one.status.table)}</a>',
            f"{one.status.rows:,}",
            f"{one.status.changes:,}",
            escape(time_text(_seconds_only(one.status.watermark_us))),
            escape(duration_text(one.status.lag_s)),
            size_text(one.status.bytes),
            _badge(*_freshness(one)),
            _badge(*_quarantine(one)),
            _badge(*_verification(one)),
        ]
        for number, one in enumerate(tables)
    ]
    heads = ("Table", "Rows", "Changes", "Newest change", "Age", "Size", "Applied", "Quarantine", "Verification")
    return _table(heads, rows, figures=(1, 2, 4, 5))


def _section(one: TableOverview, number: int) -> Iterator[str]:
    status = one.status
    yield f'<section id="table-{number}"><h2>{escape(status.table)}</h2>'
    yield f"<p>{_badge(*_freshness(one))} {_badge(*_quarantine(one))} {_badge(*_verification(one))}</p>"
    if number < CHARTED_TABLES and (one.volumes or one.rows):
        charts = [reportcharts.volumes(one, number)] if one.volumes else []
        charts += [reportcharts.rows(one, number)] if one.rows else []
        yield f'<div class="charts">{"".join(charts)}</div>'
    facts = (
        ("Columns", f"{status.columns:,}"),
        ("Files", f"{status.files:,} and {status.delete_files:,} of deletes"),
        ("Retired rows", f"{status.deleted_rows:,}"),
        ("Objects ingested", f"{status.objects:,}"),
        ("First change", time_text(_seconds_only(status.first_change_us))),
        ("Newest export", time_text(_seconds_only(status.base_export_us))),
        ("Last commit", time_text(_seconds_only(status.last_commit_us))),
        ("Waiting to be applied", f"{status.pending_batches:,} commits"),
    )
    yield (
        "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts) + "</dl>"
    )
    if one.quarantine:
        rows = [[escape(g.reason), f"{g.count:,}", escape(time_text(_seconds_only(g.last_us)))] for g in one.quarantine]
        yield "<h3>Quarantine</h3>" + _table(("Reason", "Entries", "Last"), rows, figures=(1,))
    if one.verification is not None:
        yield f"<h3>Last verification</h3><p>{escape(_verified(one.verification))}</p>"
    yield "</section>"


# --- states


def _freshness(one: TableOverview) -> tuple[Level, str]:
    if one.status.gaps:
        return "bad", f"{len(one.status.gaps)} gaps in the changes"
    if one.status.pending_batches:
        return "note", "changes wait"
    return ("good", "up to date") if one.status.watermark_us is not None else ("idle", "nothing yet")


def _quarantine(one: TableOverview) -> tuple[Level, str]:
    return (
        ("note", f"{one.status.quarantined:,} quarantined") if one.status.quarantined else ("good", "none quarantined")
    )


def _verification(one: TableOverview) -> tuple[Level, str]:
    if one.verification is None:
        return "idle", "not verified"
    levels: dict[str, Level] = {"equal": "good", "in doubt": "note", "different": "bad"}
    outcome = str(one.verification["outcome"])
    return levels.get(outcome, "idle"), f"{outcome} ({one.verification['strength']})"


def _verified(document: dict[str, Any]) -> str:
    at = time_text(_seconds_only(document.get("read_to_us")))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in document["kinds"].items() if count) or "no differences"
    compared = (
        f"{document['compared']:,} keys compared" if document["compared"] else f"{document['rows']:,} rows counted"
    )
    return f"{document['outcome']}: {compared} with {document['source']}, {kinds}; read at {at}"


# --- pieces


def _badge(level: Level, text: str) -> str:
    return f'<span class="badge {level}">{escape(text)}</span>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], figures: Sequence[int] = ()) -> str:
    """A table of cells that are HTML; the columns `figures` stand to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        right = ' class="figure"'
        return "".join(f"<{tag}{right if i in figures else ''}>{cell}</{tag}>" for i, cell in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{cells("th", heads)}</tr></thead><tbody>{body}</tbody></table></div>'


def _seconds_only(time_us: int | None) -> int | None:
    return None if time_us is None else time_us // 1_000_000 * 1_000_000
