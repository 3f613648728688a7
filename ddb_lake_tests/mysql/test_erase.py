"""Erasures reach the replica: its row, and the row that the database rejected."""

from __future__ import annotations

import pytest

from ddb_lake.errors import TransientError
from ddb_lake.mysql import erase as mysql_erase
from ddb_lake.mysql.comparison import compare
from ddb_lake.mysql.erase import REPLICA, erase_with_replica
from ddb_lake.mysql.replication import replicate
from ddb_lake.pipeline.maintain.erase import unfinished
from ddb_lake.pipeline.maintain.erasure import EraseRequest
from ddb_lake_tests.support.mysql_lakes import Replicated, order

ANN = order("ann", 1, note={"S": "a private note"})
BOB = order("bob", 2, note={"S": "short"})
REQUEST = EraseRequest([{"customer": {"S": "ann"}, "order_id": {"N": "1"}}], others_landing=True)


def test_row_and_rejected_row_of_an_erased_key_are_removed(replicated: Replicated) -> None:
    replicated.export(ANN, BOB)
    with replicated.lake() as lake:
        replicate(lake, "orders")
    replicated.execute("ALTER TABLE orders ADD CHECK (note <> 'a rejected note')")
    replicated.change(({**ANN, "note": {"S": "a rejected note"}}, ANN))
    with replicated.lake() as lake:
        assert replicate(lake, "orders").rejected == 1
        assert erase_with_replica(lake, "orders", REQUEST).removed[f"{REPLICA}: rows"] == 2
        assert replicated.rows() == {("bob", 2)}
        assert replicated.rows("fields", "orders_rejected") == set()
        assert replicate(lake, "orders").scope == "all"
        assert compare(lake, "orders", sample=None).equal
        assert erase_with_replica(lake, "orders", REQUEST).removed[f"{REPLICA}: rows"] == 0


def test_erasure_is_not_complete_while_the_database_cannot_be_reached(
    replicated: Replicated, monkeypatch: pytest.MonkeyPatch
) -> None:
    replicated.export(ANN, BOB)
    with replicated.lake() as lake:
        replicate(lake, "orders")
        with monkeypatch.context() as patched:

            def unreachable(_settings: object) -> None:
                raise TransientError("no connection", table="orders")

            patched.setattr(mysql_erase, "connect_replica", unreachable)
            with pytest.raises(TransientError):
                erase_with_replica(lake, "orders", REQUEST)
        assert len(unfinished(lake, "orders")) == 1 and replicated.rows() == {("ann", 1), ("bob", 2)}
        assert erase_with_replica(lake, "orders", REQUEST).removed[f"{REPLICA}: rows"] == 1
        assert unfinished(lake, "orders") == [] and replicated.rows() == {("bob", 2)}
