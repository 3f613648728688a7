"""Secrets and the values of items are in no output, log, event or error, whatever ends how."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import dagster as dg
import pytest

from ddb_lake.aws.session import session
from ddb_lake_tests.support.command_line import Run, landing, project, run
from ddb_lake_tests.support.dagster_folders import FolderLake, inserted
from ddb_lake_tests.support.dagster_runs import DAGSTERS_OWN, quiet_runs
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes, write_export

__all__ = ["landing", "project", "quiet_runs", "run"]

SECRET = "SECRETwJalrXUtnFEMIK7MDENG"
VALUE = "VALUE4111111111111111"
"""Markers: of a credential, and of what an item holds. Neither may be seen anywhere."""


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, no_aws: None) -> None:
    """Credentials and passwords in the environment, and an endpoint without a server."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LAKE_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    session.cache_clear()


AURORA = """\
warehouse: warehouse
tables:
  - name: orders
    key: [customer, order_id]
    aurora: {host: 127.0.0.1, port: 9, database: d, user: u, password_env: LAKE_PASSWORD}
"""


def test_no_command_prints_or_logs_a_secret_or_a_value(
    project: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "botocore")  # at DEBUG, which is not a default, it logs the headers that it signs
    (project / "ddb_lake.yaml").write_text(AURORA)
    kept = order("ann", 1, note={"S": VALUE}, total={"N": "1"})
    write_export(project / "export", "orders", [kept])
    twice = order("bob", 1, note={"S": VALUE})
    write_export(project / "doubled", "orders", [twice, twice])
    later = change(1, EXPORT_US + 3_600_000_000, {**kept, "more": {"S": VALUE}}, kept)
    bad = {**json.loads(json.dumps(later)), "eventName": VALUE}
    write_changes(project / "changes/2024/05/14/12/x", later, json.dumps(bad), f'{{"broken": "{VALUE}', VALUE)
    commands: tuple[tuple[object, ...], ...] = (
        ("load", "orders", project / "export"),
        ("load", "orders", project / "doubled"),
        ("apply", "orders", project / "changes"),
        ("apply", "orders", project / "changes", "--json"),
        ("status", "orders"),
        ("status", "--json"),
        ("compact", "orders", "--force"),
        ("quarantine", "list", "orders"),
        ("verify", "orders"),
        ("repair", "orders"),
        ("sync", "--once"),
        ("doctor",),
        ("doctor", "--json"),
        ("--debug", "load", "orders", project / "nowhere"),
        ("aurora", "orders"),
        ("load", "orders", "s3://bucket/export/"),
    )
    ended = {}
    for command in commands:
        result = run(*command)
        said = result.output + result.stderr
        assert SECRET not in said, command
        assert VALUE not in said, command
        ended[" ".join(map(str, command))] = result.exit_code
    assert SECRET not in caplog.text and VALUE not in caplog.text
    assert sorted(set(ended.values())) == [0, 1, 2], ended
    lake = [path.read_bytes() for path in (project / "warehouse").rglob("*.json") if path.is_file()]
    assert lake and not [data for data in lake if SECRET.encode() in data]


@pytest.mark.filterwarnings(*DAGSTERS_OWN)
def test_no_event_of_dagster_has_a_secret_or_a_value_of_a_masked_table(tmp_path: Path, quiet_runs: None) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        lake = FolderLake(tmp_path, instance, orders={"mask": True})
        lake.export(order("ann", 1, note={"S": VALUE}))
        lake.land("2025/02/03/04/a", inserted(1, note={"S": VALUE}), f'{{"broken": "{VALUE}')
        runs = lake.settle()
        assert runs and all(one.success for one in runs)
        told = [entry.to_json() for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    assert len(told) > 20
    assert not [one for one in told if SECRET in one or VALUE in one]
