"""Inputs with failing records beside good ones."""

from __future__ import annotations

from collections.abc import Callable

from ddb_lake_tests.support.cases import Case


def test_records_with_unusual_json_are_read_or_quarantined_one_by_one(case: Callable[[str], Case]) -> None:
    one = case("json-nasties")
    result = one.ok("apply", "t", "landing")
    assert "25 records went to quarantine" in result.stderr
    assert len(one.items()) == 20
    assert one.query("SELECT count(*) AS n FROM t_quarantine") == [{"n": 25}]
    one.ok("apply", "t", "landing")
    assert one.query("SELECT count(*) AS n FROM t_quarantine") == [{"n": 25}]
