"""`ddb-lake erase`: it prints before it erases, takes keys from a file, and never prints a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.effort import cases
from ddb_lake_tests.support.landed_files import EXPORT_US, change, order, write_changes

KEY = '{"customer": "annabel", "order_id": 12}'


@pytest.fixture
def applied(run: Run, project: Path) -> Run:
    """A lake with two items."""
    records = [change(n, EXPORT_US + n, order(name, 12)) for n, name in enumerate(("annabel", "bob"), start=1)]
    write_changes(project / "landed", *records)
    run("apply", "orders", "landed")
    return run


def rows(run: Run) -> list[str]:
    """The customers in the lake."""
    found = run("query", "SELECT customer FROM orders ORDER BY 1", "--json").stdout
    return [line for line in ("annabel", "bob") if line in found]


def test_without_a_terminal_it_only_prints_what_would_be_erased(applied: Run) -> None:
    result = applied("erase", "orders", "--key", KEY)
    assert result.exit_code == 0
    assert "orders: 1 key would be erased." in result.stdout and "orders_changes: rows: 1" in result.stdout
    assert "--yes" in result.stderr and "annabel" not in result.output
    assert rows(applied) == ["annabel", "bob"]


def test_keys_of_a_file_are_erased(applied: Run, project: Path) -> None:
    (project / "keys.jsonl").write_text(f'{KEY}\n\n{{"customer": {{"S": "bob"}}, "order_id": {{"N": "12.0"}}}}\n')
    result = applied("erase", "orders", "--keys", "keys.jsonl", "--yes", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["keys"] == 2 and document["removed"]["orders: rows"] == 2 and document["files_read"] > 0
    assert "--landing" in document["not_reached"][0]
    assert sum(searched["files"] for searched in document["proof"]) == document["files_read"]
    rows_of = {one["place"]: one["files"] for one in document["proof"] if "hash of a key" in one["searched_for"]}
    expected = {name: len(list((project / "lake").rglob(f"{name}/data/**/*.parquet"))) for name in rows_of}
    assert rows_of == {name: files for name, files in expected.items() if files}
    assert {one["place"] for one in document["proof"]} >= {"orders", "orders_changes"}
    assert rows(applied) == []
    applied("apply", "orders", "landed")
    audit = applied("query", "SELECT * FROM orders_erasures", "--json").stdout
    assert "annabel" not in audit and "bob" not in audit
    assert json.loads(applied("apply", "orders", "landed", "--json").stdout)["new"] == 0


@pytest.mark.parametrize(
    "key",
    [
        "annabel",
        "[1]",
        '{"customer": "annabel"}',
        '{"customer": "annabel", "order_id": [1]}',
        '{"customer": "bob", "customer": "annabel", "order_id": 12}',
        '{"customer": "annabel", "order_id": 12, "note": "x"}',
        '{"customer": "annabel", "order_id": NaN}',
    ],
)
def test_wrong_key_is_an_error_that_does_not_quote_it(applied: Run, key: str) -> None:
    result = applied("erase", "orders", "--key", key, "--yes")
    assert result.exit_code != 0 and "annabel" not in result.output
    assert rows(applied) == ["annabel", "bob"]


def test_error_of_a_key_with_further_attributes_names_the_key(applied: Run) -> None:
    result = applied("erase", "orders", "--key", '{"customer": "annabel", "order_id": 12, "secret": "x"}', "--yes")
    assert "whose key is ['customer', 'order_id']: it has 1 further attribute" in result.stderr
    assert "secret" not in result.output


@pytest.mark.parametrize("spelled", cases(("1.2e1", "12.0", '{"N": "+012"}'), quick=("1.2e1",)))
def test_number_of_a_key_may_have_any_spelling(applied: Run, spelled: str) -> None:
    result = applied("erase", "orders", "--key", f'{{"customer": "annabel", "order_id": {spelled}}}', "--yes")
    assert result.exit_code == 0, result.output
    assert rows(applied) == ["bob"]


def test_key_that_is_nowhere_is_a_warning(applied: Run) -> None:
    wrong = '{"customer": "annabel", "order_id": "12"}'
    for arguments in (["--key", wrong], ["--key", wrong, "--yes"], ["--key", wrong, "--yes", "--json"]):
        result = applied("erase", "orders", *arguments)
        assert result.exit_code == 0 and "nothing of these keys was found" in result.stderr
    assert rows(applied) == ["annabel", "bob"]
    assert "nothing of these keys" not in applied("erase", "orders", "--key", KEY, "--yes").output


def test_lines_of_a_file_of_keys_end_at_a_line_feed_alone(applied: Run, project: Path) -> None:
    text = json.dumps({"customer": "a\u2028b\u0085c", "order_id": 1}, ensure_ascii=False)
    (project / "keys.jsonl").write_text(f"\ufeff{text}\r\n{KEY}\n", newline="", encoding="utf-8")
    result = applied("erase", "orders", "--keys", "keys.jsonl", "--yes")
    assert result.exit_code == 0 and "orders: 2 keys erased" in result.stdout
    (project / "keys.jsonl").write_bytes(KEY.encode("utf-16"))
    assert "keys.jsonl: no UTF-8 text" in applied("erase", "orders", "--keys", "keys.jsonl", "--yes").stderr


def test_doctor_fails_and_status_says_so_while_an_erasure_is_not_complete(
    applied: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("ddb_lake.pipeline.maintain.erase.prove", lambda _: 1 / 0)
        assert applied("erase", "orders", "--key", KEY, "--yes").exit_code != 0
    doctor = applied("doctor")
    assert doctor.exit_code == 1 and "is not complete: files may have the items" in doctor.stdout
    assert "annabel" not in doctor.output
    (one,) = json.loads(applied("status", "orders", "--json").stdout)["unfinished_erasures"]
    assert one["keys"] == 1
    for arguments in (["status", "orders"], ["status"]):
        status = applied(*arguments)
        assert "is not complete: run `ddb-lake erase orders` again with the same keys" in status.output
        assert "annabel" not in status.output
    assert applied("erase", "orders", "--key", KEY, "--yes").exit_code == 0
    assert "is not complete" not in applied("doctor").stdout
    assert "is not complete" not in applied("status", "orders").output
    assert json.loads(applied("status", "orders", "--json").stdout)["unfinished_erasures"] == []
