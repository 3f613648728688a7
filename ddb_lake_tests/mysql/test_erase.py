"""Erasures reach the replica: its row, and the row that the database rejected."""

from __future__ import annotations

from ddb_lake.mysql.comparison import compare
from ddb_lake.mysql.erase import erase_replica
from ddb_lake.mysql.replication import replicate
from ddb_lake.pipeline.maintain.erase import erase_keys, key_texts
from ddb_lake.pipeline.maintain.erasure import EraseRequest
from ddb_lake_tests.support.mysql_lakes import Replicated, order

ANN = order("ann", 1, note={"S": "a private note"})
BOB = order("bob", 2, note={"S": "short"})


def test_row_and_rejected_row_of_an_erased_key_are_removed(replicated: Replicated) -> None:
    replicated.export(ANN, BOB)
    with replicated.lake() as lake:
        replicate(lake, "orders")
    replicated.execute("ALTER TABLE orders ADD CHECK (note <> 'a rejected note')")
    replicated.change(({**ANN, "note": {"S": "a rejected note"}}, ANN))
    with replicated.lake() as lake:
        assert replicate(lake, "orders").rejected == 1
        keys = [{"customer": {"S": "ann"}, "order_id": {"N": "1"}}]
        erase_keys(lake, "orders", EraseRequest(keys, others_landing=True))
        assert erase_replica(lake, "orders", key_texts(lake, "orders", keys)) == 2
        assert replicated.rows() == {("bob", 2)}
        assert replicated.rows("fields", "orders_rejected") == set()
        assert replicate(lake, "orders").scope == "all"
        assert compare(lake, "orders", sample=None).equal
        assert erase_replica(lake, "orders", key_texts(lake, "orders", keys)) == 0
