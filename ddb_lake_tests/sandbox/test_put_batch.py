"""PutRecordBatch as Firehose takes it: limits, and records that it has no room for."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from ddb_lake.sandbox import Delivery, Sandbox
from ddb_lake_tests.support.sandbox_steps import BUCKET, make_bucket, objects


def test_refused_records_are_reported_one_by_one_and_the_others_accepted(sandbox: Sandbox) -> None:
    make_bucket(sandbox)
    sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET, refuses=lambda call, number: (call, number) == (0, 1)))
    firehose = sandbox.client("firehose")
    batch = [{"Data": data} for data in (b"a", b"b", b"c")]
    answer = firehose.put_record_batch(DeliveryStreamName="hose", Records=batch)
    assert answer["FailedPutCount"] == 1
    assert [one.get("ErrorCode") for one in answer["RequestResponses"]] == [None, "ServiceUnavailableException", None]
    assert firehose.put_record_batch(DeliveryStreamName="hose", Records=batch[1:2])["FailedPutCount"] == 0
    sandbox.flush()
    assert list(objects(sandbox).values()) == [b"acb"]


@pytest.mark.parametrize("batch", [[b"x"] * 501, [b"x" * 1_000_000] * 5, [b"x" * 1_024_001]])
def test_batch_beyond_the_limits_is_refused_whole(sandbox: Sandbox, batch: list[bytes]) -> None:
    make_bucket(sandbox)
    sandbox.delivery_stream(Delivery(name="hose", bucket=BUCKET))
    with pytest.raises(ClientError):
        sandbox.client("firehose").put_record_batch(
            DeliveryStreamName="hose", Records=[{"Data": data} for data in batch]
        )
    assert sandbox.flush() == []
