"""Single-table designs that AWS has published, from an export to SQL: `init --discover` proposes entities, and no value is lost.

The keys and attributes are those of the published schemas. The values are ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.command_line import run as run
from ddb_lake_tests.support.entity_histories import item
from ddb_lake_tests.support.export_files import full


def recurring_payments() -> list[Item]:
    """https://github.com/aws-samples/aws-dynamodb-examples/tree/master/schema_design/SchemaExamples/RecurringPayments"""
    items = []
    for account in range(1, 6):
        card = {"M": {"default-card": {"S": f"**** {account}"}, "default-address": {"S": "1 Main Street"}}}
        items.append(
            item(
                f"ACC#{account}",
                f"SUB#{account * 7}#SKU#{900 + account}",
                Email=f"{account}@example.org",
                PaymentDay="28",
                PaymentAmount="12.99",
                CreatedDate="2023-05-18T09:41:25.856Z",
                PaymentDetails=card,
                SKU=str(900 + account),
            )
        )
        items += [
            item(
                f"ACC#{account}",
                f"REC#2023-0{month}-28T14:15:39.24#SKU#{900 + account}",
                ProcessedAmount="12.99",
                ProcessedDate=f"2023-0{month}-28T14:15:39.247Z",
                TTL=1_700_318_200 + month,
                CreatedDate=month,
            )
            for month in range(1, account)
        ]
    return items


def complaints() -> list[Item]:
    """https://github.com/aws-samples/aws-dynamodb-examples/tree/master/schema_design/SchemaExamples/ComplainManagement"""
    items = []
    for number in (123, 987, 1444):
        items.append(
            item(
                f"Complaint{number}",
                "metadata",
                customer_id="custABC",
                severity="P2",
                complaint_id=f"Complaint{number}",
            )
        )
        for comm in range(3):
            attached: dict[str, Any] = {"attachments": {"SS": [f"s3://bucket/{comm}"]}} if comm else {}
            items.append(
                item(
                    f"Complaint{number}",
                    f"comm#2023-04-30T12:0{comm}:24#comm{number}{comm}",
                    comm_id=f"comm{comm}",
                    agentID="AgentA",
                    **attached,
                )
            )
    return items


def query(run: Run, sql: str) -> list[dict[str, Any]]:
    """The rows of a query, as objects."""
    result = run("query", "--json", sql)
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def lake_of_design(run: Run, folder: Path, items: Sequence[Item], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write an export, let `init` propose entities, and load it. Returns the names of the entities."""
    monkeypatch.chdir(folder)
    full(items, table="app").write(folder / "exports")
    written = run("init", "exports", "--discover", "--key", "PK,SK")
    assert written.exit_code == 0, written.output
    loaded = run("load", "app", "--export", "exports")
    assert loaded.exit_code == 0, loaded.output
    document = yaml.safe_load((folder / "ddb_lake.yaml").read_text())
    return [entity["name"] for entity in document["attributes"]["tables"][0]["entities"]]


def test_recurring_payments(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lake_of_design(run, tmp_path, recurring_payments(), monkeypatch) == ["rec", "sub", "rest"]
    assert query(run, "SELECT count(*) AS n FROM app_rest") == [{"n": 0}]
    subscriptions = 'SELECT acc_id, sub_id, sku_id, SKU, "PaymentDetails__default_card" AS card, _rescued FROM app_sub ORDER BY acc_id'
    assert query(run, subscriptions) == [
        {
            "acc_id": account,
            "sub_id": account * 7,
            "sku_id": 900 + account,
            "SKU": str(900 + account),
            "card": f"**** {account}",
            "_rescued": None,
        }
        for account in range(1, 6)
    ]
    receipts = "SELECT acc_id, count(*) AS n, sum(CreatedDate) AS months, count(_rescued) AS left FROM app_rec GROUP BY 1 ORDER BY 1"
    assert query(run, receipts) == [
        {"acc_id": account, "n": account - 1, "months": sum(range(1, account)), "left": 0} for account in range(2, 6)
    ]


@pytest.mark.exhaustive
def test_complaints(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lake_of_design(run, tmp_path, complaints(), monkeypatch) == ["comm", "metadata", "rest"]
    sql = "SELECT m.complaint_id, count(*) AS n FROM app_metadata m JOIN app_comm c USING (PK) GROUP BY 1 ORDER BY 1"
    assert query(run, sql) == [{"complaint_id": f"Complaint{n}", "n": 3} for n in (123, 1444, 987)]
    assert query(
        run, "SELECT count(attachments) AS n, count(comm_id) AS parts, count(_rescued) AS left FROM app_comm"
    ) == [{"n": 6, "parts": 9, "left": 0}]


@pytest.mark.exhaustive
def test_online_shop(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/data-modeling-online-shop.html"""
    items = [item(f"c#{n}", f"c#{n}", Email=f"{n}@example.org") for n in range(4)]
    items += [item(f"p#{n}", f"p#{n}", Price={"N": f"{n}.50"}) for n in range(4)]
    items += [item(f"o#{n}", f"c#{n % 4}", Date="2026-01-01") for n in range(8)]
    items += [item(f"o#{n}", f"p#{n % 4}", Quantity=n) for n in range(8)]
    names = lake_of_design(run, tmp_path, items, monkeypatch)
    counts = [query(run, f"SELECT count(*) AS n FROM app_{name}")[0]["n"] for name in names]
    assert sorted(counts) == [0, 4, 4, 8, 8]
