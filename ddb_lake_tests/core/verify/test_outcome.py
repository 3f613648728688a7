"""What is green, yellow and red."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from ddb_lake.core.verify.outcome import (
    GREEN,
    Outcome,
    Severity,
    State,
    judged,
    unknown,
    urgency,
    worst_state,
)

STATES, SEVERITIES = get_args(State), get_args(Severity)


def test_only_what_passed_is_green() -> None:
    assert frozenset({"pass"}) == GREEN
    for state, certain, severity in product(STATES, (True, False), SEVERITIES):
        is_green = Outcome(state, "", certain=certain).color(severity) == "green"
        assert is_green == (state == "pass")


@pytest.mark.parametrize(
    ("outcome", "severity", "color"),
    [
        (judged(False, ""), "error", "red"),
        (judged(False, ""), "warning", "yellow"),
        (judged(False, "", certain=False), "error", "yellow"),
        (unknown("AWS does not answer"), "error", "yellow"),
    ],
)
def test_color_of_what_did_not_pass(outcome: Outcome, severity: Any, color: str) -> None:
    assert outcome.color(severity) == color


def test_unknown_outcome_states_what_is_unknown_and_why() -> None:
    text = unknown("orders cannot be reached.").sentence("whether the rows are equal")
    assert text == "unknown: whether the rows are equal, because orders cannot be reached."
    assert judged(True, "Both have 3.").sentence("whether the rows are equal") == "Both have 3."


def test_several_signs_pass_only_if_each_does() -> None:
    assert worst_state([]) == "unknown"
    for states in product(STATES, repeat=3):
        assert (worst_state(states) == "pass") == (set(states) == {"pass"})
        assert (worst_state(states) == "fail") == ("fail" in states)


def test_worst_color_comes_first() -> None:
    assert sorted(("green", "red", "yellow"), key=urgency) == ["red", "yellow", "green"]
