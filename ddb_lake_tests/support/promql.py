"""Evaluates the part of PromQL that the alert rules and the dashboard use, over two scrapes. Anything else is an error.

https://prometheus.io/docs/prometheus/latest/querying/basics/
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = frozenset[tuple[str, str]]
Vector: TypeAlias = dict[Labels, float]

_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|[a-zA-Z_:][a-zA-Z0-9_:]*|\[\d+[smh]\]|==|[-+*/>(),])")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {">": operator.gt, "==": operator.eq}
_SUM: Mapping[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub}
_PRODUCT: Mapping[str, Callable[[float, float], float]] = {"*": operator.mul, "/": operator.truediv}
_UNITS = {"s": 1, "m": 60, "h": 3600}


def scrape(text: str) -> dict[str, Vector]:
    """The samples of Prometheus' text format, by name."""
    found: dict[str, Vector] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


@dataclass
class Evaluation:
    """One evaluation at the time `now_s`, of scrapes of now and of before: a range reaches back to the earlier one."""

    before: dict[str, Vector]
    now: dict[str, Vector]
    now_s: float
    _tokens: list[str] = field(default_factory=list)

    def of(self, expression: str) -> Vector:
        """The series that the expression gives. A metric that the scrape does not have is an error, not an empty result."""
        position = 0
        self._tokens = []
        while position < len(expression.rstrip()):
            match = _TOKEN.match(expression, position)
            assert match, f"{expression[position:]!r} is no PromQL that this evaluates"
            self._tokens.append(match[1])
            position = match.end()
        result = self._compared()
        assert not self._tokens, self._tokens
        assert isinstance(result, dict), "a series and no number"
        return result

    def _compared(self) -> Vector | float:
        left = self._sum()
        if self._next() not in _COMPARE:
            return left
        test = _COMPARE[self._take()]
        right = self._sum()
        assert isinstance(left, dict)
        assert isinstance(right, float)
        return {labels: value for labels, value in left.items() if test(value, right)}

    def _sum(self) -> Vector | float:
        left = self._product()
        while self._next() in _SUM:
            left = _combined(_SUM[self._take()], left, self._product())
        return left

    def _product(self) -> Vector | float:
        left = self._atom()
        while self._next() in _PRODUCT:
            left = _combined(_PRODUCT[self._take()], left, self._atom())
        return left

    def _atom(self) -> Vector | float:
        name = self._take()
        if name[0].isdigit():
            return float(name)
        if self._next() != "(":
            return dict(self.now[name])
        self._take()
        if name == "time":
            result: Vector | float = self.now_s
        elif name in ("rate", "increase"):
            result = self._range(self._take(), name)
        else:
            assert name == "absent", name
            result = {} if self._compared() else {frozenset(): 1.0}
        assert self._take() == ")"
        return result

    def _range(self, metric: str, function: str) -> Vector:
        text = self._take()
        seconds = int(text[1:-2]) * _UNITS[text[-2]]
        before = self.before.get(metric, {})
        assert metric.endswith(("_total", "_sum", "_count")), "a rate is one of a counter"
        grown = {labels: value - before.get(labels, value) for labels, value in self.now[metric].items()}
        return grown if function == "increase" else {labels: value / seconds for labels, value in grown.items()}

    def _next(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _take(self) -> str:
        return self._tokens.pop(0)


def _combined(
    operation: Callable[[float, float], float], left: Vector | float, right: Vector | float
) -> Vector | float:
    if isinstance(left, dict) and isinstance(right, dict):
        return {labels: operation(left[labels], right[labels]) for labels in left if right.get(labels)}
    if isinstance(left, dict):
        assert isinstance(right, float)
        return {labels: operation(value, right) for labels, value in left.items()}
    if isinstance(right, dict):
        return {labels: operation(left, value) for labels, value in right.items()}
    return operation(left, right)
