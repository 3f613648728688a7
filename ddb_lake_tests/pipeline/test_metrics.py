"""The metrics that a follower gives, and the alert rules and the dashboard evaluated over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.request import urlopen

import pytest
import yaml

import ddb_lake
from ddb_lake.errors import UnreachableError, UsageError
from ddb_lake.lake.commit import Commit
from ddb_lake.pipeline.metrics import MOST_EMF_METRICS, LakeMetrics
from ddb_lake.pipeline.read.check_results import CheckResult, keep_results
from ddb_lake.pipeline.read.verification_report import Report, keep_report
from ddb_lake_tests.support.promql import Evaluation, Vector, scrape
from ddb_lake_tests.support.simulated_follower import NAME, Following, following
from ddb_lake_tests.support.streams_service import SimulatedStreams

MONITORING = Path(ddb_lake.__file__).parent / "docs" / "monitoring"
RULES = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}
PANELS: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
THINGS = frozenset({("table", NAME)})


def _add_heard(metrics: LakeMetrics, found: Following) -> None:
    """Give the metrics what a follower did since the last call, as the command does."""
    table, heard = found.lake.table(NAME), found.heard
    for turn in heard.turns:
        metrics.add_turn(table, turn, found.lake.now().timestamp())
    for _ in heard.errors:
        metrics.add_failure(NAME)
    heard.turns.clear()
    heard.errors.clear()
    metrics.set_followed([NAME], [])
    metrics.observe(found.lake, [NAME])


def _report(found: Following, differences: int = 0) -> None:
    now_us = found.service.now_us
    kinds = {"missing": differences} if differences else {}
    keep_report(found.lake, Report(NAME, "sample", "DynamoDB", "equal", now_us, now_us, kinds=kinds))


def _checked(found: Following, color: Any) -> None:
    result = CheckResult("current", "no_gaps", "whether", color, "", found.service.now_us)
    keep_results(found.lake, NAME, [result], [result])


@pytest.fixture
def service() -> SimulatedStreams:
    running = SimulatedStreams()
    running.enable()
    return running


def _firing(metrics: LakeMetrics, before: dict[str, Vector], service: SimulatedStreams) -> set[str]:
    evaluation = Evaluation(before, scrape(metrics.text().decode()), service.clock())
    return {name for name, expression in RULES.items() if evaluation.of(expression)}


def test_each_alert_fires_for_its_state_and_for_no_other(tmp_path: Path, service: SimulatedStreams) -> None:
    metrics = LakeMetrics()
    with following(tmp_path, service) as found:
        follower = found.follower()
        for number in range(6):
            service.write(number, number)
        found.run(follower)
        _report(found)
        _checked(found, "green")
        _add_heard(metrics, found)
        before = scrape(metrics.text().decode())
        service.write(7, 7)
        found.run(follower)
        _add_heard(metrics, found)
        evaluation = Evaluation(before, scrape(metrics.text().decode()), service.clock())
        for panel in PANELS:
            for target in panel["targets"]:
                assert evaluation.of(target["expr"]), f"{panel['title']}: no series"
        assert _firing(metrics, before, service) == set()

        with mock.patch.object(Commit, "run", side_effect=UnreachableError("the catalog does not answer")):
            service.write(1, 50)
            for _ in range(5):
                found.run(follower, rounds=1)
                service.advance(100)
        _add_heard(metrics, found)
        assert _firing(metrics, before, service) == {"LakeFailures"}
        found.run(follower)
        _add_heard(metrics, found)
        before = scrape(metrics.text().decode())
        assert _firing(metrics, before, service) == set()

        _checked(found, "red")
        _report(found, differences=3)
        _add_heard(metrics, found)
        assert _firing(metrics, before, service) == {"LakeCheckIsRed", "LakeDiffers"}
        service.advance(9 * 86_400)
        _checked(found, "green")
        metrics.set_followed([], [NAME])
        metrics.set_lag(found.lake.table(NAME), 61.0)
        metrics.observe(found.lake, [NAME])
        assert _firing(metrics, before, service) == {
            "LakeIsBehind",
            "LakeIsNotFollowed",
            "LakeIsNotVerified",
            "LakeDiffers",
        }
        _report(found)
        metrics.set_lag(found.lake.table(NAME), 0.0)
        service.disable()
        service.enable()
        service.write(1, 60)
        found.run(follower)
        _add_heard(metrics, found)
        assert _firing(metrics, before, service) == {"LakeHasGaps"}


def test_figures_are_those_of_the_lake(tmp_path: Path, service: SimulatedStreams) -> None:
    metrics = LakeMetrics()
    with following(tmp_path, service) as found:
        follower = found.follower()
        for number in range(6):
            service.write(number % 3, number)
        found.run(follower)
        _add_heard(metrics, found)
        values = scrape(metrics.text().decode())
        assert values["ddb_lake_rows"] == {THINGS: 3}
        assert values["ddb_lake_changelog_records"] == {THINGS: 6}
        assert values["ddb_lake_landed_records_total"] == {THINGS: 6}
        outcomes = {dict(labels)["outcome"]: value for labels, value in values["ddb_lake_records_total"].items()}
        assert outcomes == {"new": 6, "duplicate": 0, "quarantined": 0}
        (lag_s,) = values["ddb_lake_lag_seconds"].values()  # an upper bound: the stream is not known to be at its end
        assert 0 <= lag_s < 5
        assert set(values["ddb_lake_lag_seconds"]) == {THINGS | {("source", "streams")}}
        newest_s = values["ddb_lake_newest_change_timestamp_seconds"][THINGS]
        assert newest_s == found.service.changes[-1].time_us // 1_000_000


def test_embedded_metrics_satisfy_the_format_of_cloudwatch(tmp_path: Path, service: SimulatedStreams) -> None:
    metrics = LakeMetrics()
    with following(tmp_path, service) as found:
        service.write(1, 1)
        found.run(found.follower())
        _add_heard(metrics, found)
    documents = list(metrics.embedded(1_772_357_400_000))
    assert documents
    for document in documents:
        assert document == json.loads(json.dumps(document))
        assert document["_aws"]["Timestamp"] == 1_772_357_400_000
        (directive,) = document["_aws"]["CloudWatchMetrics"]
        assert len(directive["Metrics"]) <= MOST_EMF_METRICS
        assert all(isinstance(document[one["Name"]], float) for one in directive["Metrics"])
        assert all(isinstance(document[name], str) for (*names,) in directive["Dimensions"] for name in names)
        assert {one["Unit"] for one in directive["Metrics"]} <= {"Seconds", "Bytes", "Count"}


def test_state_of_a_table_that_another_follower_took_over_is_no_longer_exported(
    tmp_path: Path, service: SimulatedStreams
) -> None:
    """Guards the alarm on lag: CloudWatch takes the maximum of both followers, and the old one's figure does not change any more."""
    metrics = LakeMetrics()
    with following(tmp_path, service) as found:
        service.write(1, 1)
        found.run(found.follower())
        _add_heard(metrics, found)
        metrics.set_followed([], [NAME])
    values = {name: figure for document in metrics.embedded(0) for name, figure in document.items()}
    assert values["ddb_lake_followed"] == 0
    assert values["ddb_lake_landed_records_total"] == 1
    assert not {"ddb_lake_lag_seconds", "ddb_lake_rows", "ddb_lake_open_gaps", "ddb_lake_check_state"} & values.keys()


def test_metrics_are_served_over_http() -> None:
    metrics = LakeMetrics()
    metrics.set_followed(["orders"], ["customers"])
    port = metrics.serve("127.0.0.1:0")
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        values = scrape(answer.read().decode())
    assert {dict(labels)["table"]: value for labels, value in values["ddb_lake_followed"].items()} == {
        "orders": 1,
        "customers": 0,
    }
    with pytest.raises(UsageError, match="9464"):
        metrics.serve("port")
    with pytest.raises(UsageError):
        metrics.serve(f"127.0.0.1:{port}")
