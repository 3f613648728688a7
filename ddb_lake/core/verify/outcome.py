"""The outcome of a check, and the one rule of what is green: a check that could not look has not passed.

Every check of a lake and every sign of a capture has one of three states. Dagster, `status`, `doctor`, `report` and the
overview show the colors and sentences that this module gives.

| state | color | meaning |
| --- | --- | --- |
| `pass` | green | what was compared is equal, or within its limits |
| `fail` | red | a fault; yellow if the check is a warning, or if a change under way may explain what was found |
| `unknown` | yellow | nothing could be compared; the text states what is unknown, and why |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

State: TypeAlias = Literal["pass", "fail", "unknown"]
Color: TypeAlias = Literal["green", "yellow", "red"]
Severity: TypeAlias = Literal["error", "warning"]

GREEN: frozenset[State] = frozenset({"pass"})
"""The states that are shown as passed."""

WORST_FIRST: tuple[Color, ...] = ("red", "yellow", "green")
_WORST_STATE_FIRST: tuple[State, ...] = ("fail", "unknown", "pass")


@dataclass(frozen=True, slots=True)
class Listing:
    """Evidence in rows, such as the first objects that wait. Each row has one value for each of `columns`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | bool, ...], ...]


Figures: TypeAlias = Mapping[str, str | int | float | bool | Listing]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one evaluation of a check found.

    Attributes:
        state: see the module.
        text: what was compared with what and the result, in sentences. For `unknown`: the reason, a clause that follows
            "because". It has no values of items.
        figures: the evidence, by name.
        certain: False if a change under way may explain a failure.
    """

    state: State
    text: str
    figures: Figures = field(default_factory=dict)
    certain: bool = True

    def color(self, severity: Severity = "error") -> Color:
        """The color. `severity`: of the check's failures."""
        if self.state in GREEN:
            return "green"
        return "red" if self.state == "fail" and self.certain and severity == "error" else "yellow"

    def sentence(self, question: str) -> str:
        """The text for people. `question`: what an unknown outcome leaves open, a clause that begins with "whether"."""
        return unknown_text(question, self.text) if self.state == "unknown" else self.text


def judged(passed: bool, text: str, figures: Figures | None = None, *, certain: bool = True) -> Outcome:
    """The outcome of a comparison that was made."""
    return Outcome("pass" if passed else "fail", text, figures or {}, certain)


def unknown(because: str, figures: Figures | None = None) -> Outcome:
    """The outcome of a comparison that could not be made. `because`: the reason, a clause."""
    return Outcome("unknown", because, figures or {})


def unknown_text(question: str, because: str) -> str:
    """The words for what is unknown, everywhere: "unknown: <question>, because <reason>."."""
    return f"unknown: {question}, because {because.rstrip('. ')}."


def worst_state(states: Iterable[State]) -> State:
    """The state of several signs together: it passes only if each of them does. Unknown without any."""
    found = set(states)
    return next((state for state in _WORST_STATE_FIRST if state in found), "unknown")


def urgency(color: Color) -> int:
    """The place of a color in a list with the worst first."""
    return WORST_FIRST.index(color)
