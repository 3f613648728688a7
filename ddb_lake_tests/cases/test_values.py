"""Values that are none, in exports: refused, or set aside in the quarantine; a false NULL is kept."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ddb_lake_tests.support.cases import Case

CaseOf = Callable[[str], Case]

REFUSED = [
    ("export-base64url", 2, 41, "binary that is not valid base64 at x", {"a"}),
    ("export-duplicate-member", 2, 41, "two members of one JSON object have the same name", {"a"}),
    ("export-number-as-json-number", 1, 0, "a number is written as text, found int at x", {"n_ok"}),
]


@pytest.mark.parametrize(("name", "line", "offset", "reason", "kept"), REFUSED)
def test_export_with_an_invalid_line_is_refused_or_set_aside(
    case: CaseOf, name: str, line: int, offset: int, reason: str, kept: set[str]
) -> None:
    copy = case(name)
    refused = copy.run("load", "t", "--export", "exports/t")
    assert refused.exit_code == 1
    assert f"json.gz line {line} (byte {offset}): {reason}" in refused.stderr
    assert copy.run("query", "SELECT * FROM t").exit_code != 0

    loaded = copy.ok("load", "t", "--export", "exports/t", "--reject-to-quarantine", "--json")
    result = json.loads(loaded.stdout)
    assert (result["items"], result["quarantined"], result["rows"]) == (2, 1, 1)
    assert "1 record went to quarantine" in loaded.stderr
    assert {item["id"]["S"] for item in copy.items()} == kept
    (entry,) = json.loads(copy.ok("quarantine", "show", "t", "--json").stdout)["entries"]
    assert (entry["reason"], entry["offset"]) == (reason, offset)
    (group,) = json.loads(copy.ok("quarantine", "list", "t", "--json").stdout)["groups"]
    assert (group["reason"], group["count"]) == (reason, 1)

    again = json.loads(copy.ok("load", "t", "--export", "exports/t", "--json").stdout)
    assert (again["already_loaded"], again["quarantined"]) == (True, 1)


def test_a_false_null_is_kept(case: CaseOf) -> None:
    copy = case("null-false-verify")
    copy.ok("load", "t", "--export", "exports/t")
    assert {item["id"]["S"]: item["x"] for item in copy.items()} == {
        "e_false": {"NULL": False},
        "e_true": {"NULL": True},
    }
    copy.ok("verify", "t", "--full", "--export", "exports/t")


def test_one_odd_number_is_rescued_and_the_column_keeps_its_type(case: CaseOf) -> None:
    copy = case("one-odd-number")
    copy.ok("load", "t", "--export", "exports/t")
    assert copy.query("SELECT sum(price)::VARCHAR AS total FROM t") == [{"total": "499749.75"}]
    assert copy.query("SELECT count(*) AS n FROM t WHERE _rescued LIKE '%/price%1E+125%'") == [{"n": 1}]
    copy.ok("compact", "t", "--force")
    assert copy.query("SELECT sum(price)::VARCHAR AS total FROM t") == [{"total": "499749.75"}]
