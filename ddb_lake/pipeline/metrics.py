"""Metrics of a lake for a monitoring system: Prometheus, or CloudWatch by its embedded metric format.

Two kinds: what this process did (`LakeMetrics.add`, counters since it began), and the state of the tables as the lake has it
(`LakeMetrics.observe`, gauges), which any process may export, also one that did no work. No metric or label has a value of an item.

https://prometheus.io/docs/practices/naming/
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from prometheus_client import write_to_textfile as write_file

from ddb_lake.config import TableSettings
from ddb_lake.core.operations.metric_names import FOLLOWED, LAG, NAMESPACE, OPEN_GAPS, STEP_AGE
from ddb_lake.core.verify.outcome import WORST_FIRST
from ddb_lake.errors import UsageError
from ddb_lake.pipeline.apply.apply import ApplyResult
from ddb_lake.pipeline.capture.streams import StreamsResult
from ddb_lake.pipeline.follow.table import Turn
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.check_results import check_results
from ddb_lake.pipeline.read.status import table_status
from ddb_lake.pipeline.read.verification_report import last_report

SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""The upper ends of the histogram of turns, in seconds."""

MOST_EMF_METRICS: Final = 100
"""The most metrics of one document of CloudWatch's embedded metric format."""


class LakeMetrics:
    """The metrics of one process. Every metric has the label `table`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauges: dict[Gauge, tuple[str, ...]] = {}
        self._records = self._counter("records", "Change records that were applied, by outcome.", "outcome")
        self._landed_records = self._counter("landed_records", "Records of streams that were landed.")
        self._landed_bytes = self._counter("landed_bytes", "Bytes of the lines of those records.")
        self._objects = self._counter("objects", "Landed objects that were applied.")
        self._throttled = self._counter("throttled_requests", "Requests to streams that were throttled.")
        self._failures = self._counter("failures", "Turns and planned work that failed and are tried again.")
        self._turn_seconds = Histogram(
            f"{NAMESPACE}_turn_seconds",
            "Time in which a table was landed and applied.",
            ["table"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._followed = self._gauge(_short(FOLLOWED), "1: this follower has the table; 0: another one has it.")
        self._lag = self._gauge(_short(LAG), "How far the lake is behind the source, after a turn.", "source")
        self._step_age = self._gauge(_short(STEP_AGE), "Seconds since the follower last ended a turn or other work.")
        self._turned_at = self._gauge("last_turn_timestamp_seconds", "When a change was last landed or applied.")
        self._rows = self._gauge("rows", "Existing items.")
        self._changes = self._gauge("changelog_records", "Records of the changelog.")
        self._bytes = self._gauge("size_bytes", "Size of the data files of the existing items.")
        self._files = self._gauge("files", "Data files and delete files of the existing items.")
        self._pending = self._gauge("pending_batches", "Commits of the changelog that are not merged.")
        self._quarantined = self._gauge("quarantined_entries", "Open entries of the quarantine.")
        self._gaps = self._gauge(_short(OPEN_GAPS), "Intervals in which change records may be missing.")
        self._changed_at = self._gauge("newest_change_timestamp_seconds", "Time of the newest change in the lake.")
        self._committed_at = self._gauge("last_commit_timestamp_seconds", "Time of the last commit of the items.")
        self._verified_at = self._gauge(
            "last_verification_timestamp_seconds", "When the source was last read to be compared with the lake."
        )
        self._differences = self._gauge("verification_differences", "Differences that the last verification found.")
        self._checks = self._gauge("check_state", "The last result of a check: 0 green, 1 yellow, 2 red.", "check")

    # --- what this process did

    def add(self, table: str, result: Any) -> None:
        """Add the result of a step. Results without figures for a metric add nothing."""
        if isinstance(result, StreamsResult):
            self._landed_records.labels(table).inc(result.records)
            self._landed_bytes.labels(table).inc(result.line_bytes)
            self._throttled.labels(table).inc(result.throttled)
        elif isinstance(result, ApplyResult):
            self._objects.labels(table).inc(result.objects - result.already_ingested)
            for name, ingested in result.tables.items():
                outcomes = {"new": ingested.new, "duplicate": ingested.duplicates, "quarantined": ingested.quarantined}
                for outcome, count in outcomes.items():
                    self._records.labels(name, outcome).inc(count)

    def add_turn(self, table: TableSettings, turn: Turn, now_s: float) -> None:
        """Add a turn of a follower. `now_s`: the time, in seconds since the epoch."""
        self.add(turn.table, turn.streams)
        self.add(turn.table, turn.applied)
        self._turn_seconds.labels(turn.table).observe(turn.seconds)
        self._lag.labels(turn.table, source_of(table)).set(turn.lag_s)
        self._turned_at.labels(turn.table).set(now_s)
        self._gaps.labels(turn.table).set(len(turn.gaps))

    def set_lag(self, table: TableSettings, lag_s: float) -> None:
        """Set how far the lake is behind the source, in seconds."""
        self._lag.labels(table.name, source_of(table)).set(lag_s)

    def add_failure(self, table: str) -> None:
        """Count a failure."""
        self._failures.labels(table).inc()

    def set_followed(self, tables: Sequence[str], waiting: Sequence[str]) -> None:
        """Set which tables this follower has, and which another one has. What it knew of the latter's state is removed."""
        for gauge, labels in self._gauges.items():
            if gauge is not self._followed:
                _remove(gauge, labels, waiting)
        for name in (*tables, *waiting):
            self._followed.labels(name).set(int(name in tables))
            self._failures.labels(name).inc(0)  # a counter that exists from the beginning has a rate

    def set_step_age(self, step_age_s: Callable[[], float]) -> None:
        """Read the age of a follower's last step, in seconds, whenever the metrics are exported."""
        self._step_age.labels("").set_function(step_age_s)

    # --- the state of the tables

    def observe(self, lake: Lake, names: Sequence[str]) -> None:
        """Read the state of some tables from the lake. Raises as `pipeline.read.status.table_status`."""
        for name in names:
            status = table_status(lake, name)
            figures = {
                self._rows: status.rows,
                self._changes: status.changes,
                self._bytes: status.bytes,
                self._files: status.files + status.delete_files,
                self._pending: status.pending_batches,
                self._quarantined: status.quarantined,
                self._gaps: len(status.gaps),
            }
            for gauge, value in figures.items():
                gauge.labels(name).set(value)
            report = last_report(lake, name) or {}
            times_us = {
                self._changed_at: status.last_change_us,
                self._committed_at: status.last_commit_us,
                self._verified_at: report.get("read_to_us"),
            }
            for gauge, at_us in times_us.items():
                if at_us is not None:
                    gauge.labels(name).set(at_us / 1_000_000)
            if report:
                self._differences.labels(name).set(sum(report["kinds"].values()))
            for result in check_results(lake, name):
                self._checks.labels(name, result.name).set(_STATES[result.color])

    # --- how they are exported

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def write(self, path: Path) -> None:
        """Write the text format to a file, which is replaced at once, for the textfile collector of the node exporter."""
        write_file(str(path), self.registry)

    def serve(self, address: str) -> int:
        """Serve the text format over HTTP. Returns the port.

        Args:
            address: `host:port`; without a host all interfaces. Port 0: any that is free.

        Raises:
            UsageError: it is no address, or the port is in use.
        """
        host, _, port = address.rpartition(":")
        try:
            server, _ = start_http_server(int(port), host or "0.0.0.0", self.registry)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"metrics cannot be served at {address!r}: {error}", hint="write host:port, as in :9464"
            ) from error
        return int(server.server_port)

    def embedded(self, at_ms: int) -> Iterator[dict[str, Any]]:
        """All metrics as documents of CloudWatch's embedded metric format. Counters have the sum since the process began.

        A metric of the whole process has no dimension: CloudWatch refuses a dimension with an empty value.

        Args:
            at_ms: the time of the metrics, in milliseconds since the epoch.
        """
        groups: dict[tuple[tuple[str, str], ...], dict[str, float]] = defaultdict(dict)
        for metric in self.registry.collect():
            for sample in metric.samples:
                if not sample.name.endswith(("_bucket", "_created")):
                    labels = tuple(sorted((name, value) for name, value in sample.labels.items() if value))
                    groups[labels][sample.name] = sample.value
        for labels, values in groups.items():
            names = sorted(values)
            for start in range(0, len(names), MOST_EMF_METRICS):
                some = names[start : start + MOST_EMF_METRICS]
                directive = {
                    "Namespace": NAMESPACE,
                    "Dimensions": [[name for name, _ in labels]],
                    "Metrics": [{"Name": name, "Unit": _unit(name)} for name in some],
                }
                described = {"Timestamp": at_ms, "CloudWatchMetrics": [directive]}
                yield {"_aws": described, **dict(labels), **{name: values[name] for name in some}}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{NAMESPACE}_{name}", text, ["table", *labels], registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        gauge = Gauge(f"{NAMESPACE}_{name}", text, ["table", *labels], registry=self.registry)
        self._gauges[gauge] = ("table", *labels)
        return gauge


def _remove(gauge: Gauge, labels: tuple[str, ...], tables: Sequence[str]) -> None:
    """Remove the values of some tables. `labels`: the gauge's, in their order."""
    for metric in gauge.collect():
        for sample in metric.samples:
            if sample.labels["table"] in tables:
                gauge.remove(*(sample.labels[label] for label in labels))


_STATES: Final = {color: len(WORST_FIRST) - 1 - place for place, color in enumerate(WORST_FIRST)}
"""The colors of checks as numbers: the worst is the greatest."""


def source_of(table: TableSettings) -> str:
    """The label of where a table's changes are read from: `streams`, `kinesis` or `landed`."""
    return "landed" if table.changes is None else table.changes.source


def _short(name: str) -> str:
    """A name without the namespace."""
    return name.removeprefix(f"{NAMESPACE}_")


def _unit(name: str) -> str:
    """The unit in CloudWatch."""
    if name.endswith(("_seconds", "_seconds_sum")):
        return "Seconds"
    return "Bytes" if "bytes" in name else "Count"
