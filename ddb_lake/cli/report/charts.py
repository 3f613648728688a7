"""The charts of the report, by plotly: pieces of HTML that need plotly's script once on the page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any, NamedTuple

from markupsafe import Markup

from ddb_lake.errors import UsageError
from ddb_lake.pipeline.read.overview import KINDS, TableOverview

COLORS = {
    "inserted": "#2a7f62",
    "modified": "#3b6fb6",
    "deleted": "#c2453a",
    "expired": "#d99a2b",
    "asserted": "#7a6ba8",
}
_INK, _LINES = "#2b3440", "#e3e7ec"
_TICKS = {"hour": "%H:%M<br>%Y-%m-%d", "day": "%Y-%m-%d"}
"""The labels of an axis of time, by the grain of its values. Each has its date."""

ASSERTED = "asserted"
"""The kind of records that state an item, and are no change at their time."""

MIN_BARS = 12
"""The bars that a chart of bars has room for, at least."""

_LAG_UNITS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))


class Chart(NamedTuple):
    """A chart: its title, and its HTML."""

    title: str
    html: Markup


def plotly(module: str) -> Any:
    """A module of plotly. Raises UsageError if it is not installed."""
    try:
        return import_module(f"plotly.{module}")
    except ImportError as error:
        raise UsageError("the report's charts need plotly: pip install '.[report]' in a checkout") from error


def script() -> str:
    """The text of plotly's script."""
    text: str = plotly("offline").get_plotlyjs()
    return text


def volumes(table: TableOverview, number: int) -> list[Chart]:
    """Change records over time, stacked by kind. Asserted records, which no user wrote then, have a chart of their own."""
    changes = _bars(table, [kind for kind in KINDS if kind != ASSERTED], f"volumes-{number}", "Change records")
    asserted = _bars(table, [ASSERTED], f"asserted-{number}", "Asserted records, of incremental exports and repairs,")
    return [chart for chart in (changes, asserted) if chart is not None]


def _bars(table: TableOverview, kinds: Sequence[str], name: str, what: str) -> Chart | None:
    """Records of some kinds over time, stacked; None without such records."""
    go = plotly("graph_objects")
    width = timedelta(hours=1) if table.grain == "hour" else timedelta(days=1)
    width_ms = width / timedelta(milliseconds=1)
    starts = sorted({v.start for v in table.volumes if v.kind in kinds})
    if not starts:
        return None
    figure = go.Figure()
    for kind in kinds:
        points = [v for v in table.volumes if v.kind == kind]
        if points:
            figure.add_bar(
                x=[v.start for v in points],
                y=[v.records for v in points],
                name=kind,
                marker_color=COLORS[kind],
                width=width_ms * 0.9,
                offset=0,
                hovertemplate="%{x|%Y-%m-%d %H:%M}<br>%{y:,} " + kind + "<extra></extra>",
            )
    figure.update_layout(barmode="stack", showlegend=True)
    figure.update_xaxes(tickformat=_TICKS[table.grain])
    missing = MIN_BARS - round((starts[-1] - starts[0]) / width) - 1
    if missing > 0:  # few bars would be as wide as the chart
        around = width * (missing / 2)
        figure.update_xaxes(range=[starts[0] - around, starts[-1] + width + around])
    return _chart(figure, name, f"{what} by {table.grain} of the change (UTC)")


def rows(table: TableOverview, number: int) -> Chart:
    """Rows after each commit."""
    go = plotly("graph_objects")
    figure = go.Figure()
    figure.add_scatter(
        x=[datetime.fromtimestamp(point.time_us / 1e6, UTC) for point in table.rows],
        y=[point.rows for point in table.rows],
        mode="lines+markers",
        line={"shape": "hv", "color": COLORS["modified"], "width": 2},
        marker={"size": 6},
        showlegend=False,
        hovertemplate="%{x|%Y-%m-%d %H:%M:%S}<br>%{y:,} rows<extra></extra>",
    )
    figure.update_xaxes(tickformat=_TICKS["hour"])
    return _chart(figure, f"rows-{number}", "Rows after each commit (UTC)", from_zero=False)


def lags(tables: Sequence[TableOverview]) -> Chart:
    """The age of each table's newest change, the oldest first."""
    go = plotly("graph_objects")
    known = sorted((table.status.lag_s, table.status.table) for table in tables if table.status.lag_s is not None)
    unit, seconds = next(((u, s) for u, s in _LAG_UNITS if known and known[-1][0] >= 2 * s), _LAG_UNITS[-1])
    figure = go.Figure()
    figure.add_bar(
        x=[lag_s / seconds for lag_s, _ in known],
        y=[name for _, name in known],
        orientation="h",
        marker_color=COLORS["modified"],
        hovertemplate="%{y}: %{x:,.1f} " + unit + "<extra></extra>",
    )
    return _chart(figure, "lags", f"Time since the newest change, in {unit}", height=120 + 22 * len(known))


def _chart(figure: Any, name: str, title: str, height: int = 260, from_zero: bool = True) -> Chart:
    """The HTML of a figure. `from_zero`: its values begin at zero, as those of bars must."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        font={"family": "system-ui, sans-serif", "size": 12, "color": _INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_xaxes(gridcolor=_LINES, automargin=True)
    figure.update_yaxes(gridcolor=_LINES, automargin=True, rangemode="tozero" if from_zero else "normal")
    text: str = figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displayModeBar": False, "responsive": True},
    )
    return Chart(title, Markup(text))
