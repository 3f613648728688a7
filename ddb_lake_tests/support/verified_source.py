"""A source in the sandbox and a lake beside it, to be verified and repaired."""

from __future__ import annotations

import time
from datetime import timedelta

from ddb_lake.aws.export_requests import describe_export, start_export
from ddb_lake.core.values.change_record import Item
from ddb_lake.pipeline.apply.apply import apply_objects
from ddb_lake.pipeline.open_lake import Lake
from ddb_lake.pipeline.read.verification_report import Report
from ddb_lake.sandbox import Delivery, Sandbox, Traffic
from ddb_lake_tests.support.sandbox_lake import BUCKET
from ddb_lake_tests.support.sandbox_steps import make_stream

LANDING = "changes/"


class Stand:
    """A source with traffic, delivered to S3 on demand, and its lake."""

    def __init__(self, sandbox: Sandbox, lake: Lake) -> None:
        self.sandbox, self.lake = sandbox, lake
        self.client = sandbox.client("dynamodb")
        self.traffic = Traffic(self.client, seed=7)
        arn = make_stream(sandbox, "orders", precision="MICROSECOND", shards=1)
        self.hose = sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, prefix=LANDING, source=arn))
        self.hose.flush()

    def put(self, order: str, **attributes: str) -> Item:
        """One order put, as DynamoDB JSON; it has only what is given."""
        item: Item = {"customer": {"S": "ann"}, "order_id": {"S": order}}
        item |= {name: {"N": value} for name, value in attributes.items()}
        self.client.put_item(TableName="orders", Item=item)
        return item

    def delete(self, order: str) -> None:
        self.client.delete_item(TableName="orders", Key={"customer": {"S": "ann"}, "order_id": {"S": order}})

    def deliver(self, lost: bool = False) -> None:
        """Land what has changed and apply it; `lost`: it never arrives."""
        for key in self.hose.flush():
            if not lost:
                apply_objects(self.lake, "orders", [f"s3://{BUCKET}/{key}"])

    def wait(self, minutes: float = 20) -> None:
        self.sandbox.clock.advance(timedelta(minutes=minutes))

    def export(self) -> str:
        """A full export of now; its manifest."""
        table = self.lake.table("orders")
        state = start_export(table, at=self.sandbox.clock.now())
        while state.status == "IN_PROGRESS":
            time.sleep(0.02)
            state = describe_export(table, state.arn)
        return state.manifest_uri


def at_fault(report: Report) -> dict[str, str]:
    """Order id to kind of difference."""
    return {found.key["order_id"]["S"]: found.kind for found in report.differences}
