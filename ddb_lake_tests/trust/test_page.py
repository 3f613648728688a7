"""The documentation's table of faults is that of the tests that there are."""

from __future__ import annotations

from ddb_lake_tests.trust.recording import PAGE, Covered, covered, page


def test_page_is_what_the_marked_tests_say_if_they_pass() -> None:
    found = list(covered())
    assert PAGE.read_text(encoding="utf-8") == page(found, {one.test: True for one in found}), "run `make trust`"


def test_page_shows_a_test_that_failed_or_did_not_run() -> None:
    found = [Covered("a", ("load", "dump"), "exact", "x"), Covered("a", ("load",), "refused", "y")]
    assert "| a | refused | – | – | – | – | – | – | exact | – | – | – | – |" in page(found, {"x": True, "y": True})
    assert "| a | **failed** | – | – | – | – | – | – | exact | – | – | – | – |" in page(found, {"x": True})
