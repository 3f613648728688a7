"""Erased keys are recognised by digests, and keys are found in bytes that are no record."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.values.erased_keys import ErasedKeys, keys_in, scalar_texts
from ddb_lake.core.values.primary_key import key_text
from ddb_lake.engine.session import connect

ITEM = {"id": {"S": "ann"}, "n": {"N": "1.0"}, "more": {"M": {"x": {"L": [{"S": "deep"}]}}}}
TEXT = key_text(ITEM, ["id", "n"])
RECORD = json.dumps({"dynamodb": {"Keys": {"id": ITEM["id"], "n": ITEM["n"]}, "NewImage": ITEM}})


@pytest.mark.parametrize(
    "raw",
    [
        RECORD,
        json.dumps([{"body": RECORD}]),
        json.dumps({"rawData": base64.b64encode(f"{RECORD}\n".encode()).decode()}),
        RECORD[:-30],
        f"garbage {RECORD}",
        f"{RECORD}\n{{\n",
        json.dumps({"id": "ann", "n": 1, "flat": True}),
    ],
    ids=["record", "text", "base64", "cut off", "after garbage", "line", "flattened"],
)
def test_key_is_found_in_bytes(raw: str) -> None:
    assert keys_in(raw.encode(), ["id", "n"]) == {TEXT}
    assert keys_in(raw.encode(), ["id", "absent"]) == set()


@given(st.binary(max_size=60))
def test_any_bytes_can_be_searched(raw: bytes) -> None:
    assert isinstance(keys_in(raw, ["id"]), set)


def test_key_is_known_by_its_digest_alone() -> None:
    erased = ErasedKeys(("id",), "salt")
    assert not erased and not erased.allows_recreation
    erased = replace(erased, until_us={erased.digest("S3:ann"): None})
    assert erased.names("S3:ann") and not erased.names("S3:bob") and not erased.allows_recreation
    assert erased.named_in(b'{"id":{"S":"ann"}}') and not erased.named_in(b'{"id":{"S":"bob"}}')
    assert "ann" not in repr(erased)
    assert replace(erased, until_us={erased.digest("S3:ann"): 1}).allows_recreation


def test_digest_is_that_of_duckdb() -> None:
    with connect(memory="200MB", threads=1) as session:
        assert session.value("SELECT sha256('salt' || 'S3:änn')") == ErasedKeys(("id",), "salt").digest("S3:änn")


def test_values_of_items_are_found() -> None:
    assert scalar_texts([ITEM]) == {"ann", "1.0", "deep"}
