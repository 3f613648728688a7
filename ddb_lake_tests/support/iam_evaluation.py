"""What policies allow, and which of these permissions calls have used. Knows the conditions that our policies have, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ddb_lake.core.operations.policies import Statement
from ddb_lake_tests.support.aws_calls import Call
from ddb_lake_tests.support.templates import as_list


@dataclass(frozen=True, slots=True)
class Grant:
    """One action of one statement. `through`: the services that a key may be used through; `prefixes`: of listings."""

    sid: str
    action: str
    resources: tuple[str, ...]
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def through(self) -> frozenset[str]:
        """The services of `kms:ViaService`, and Lambda where the key is bound to a function's environment."""
        equal = self.conditions.get("StringEquals", {})
        found = {str(host).partition(".")[0] for host in as_list(equal.get("kms:ViaService", []))}
        return frozenset(found | {"lambda" for key in equal if key.startswith("kms:EncryptionContext:aws:lambda")})

    def allows(self, call: Call) -> bool:
        """Whether this grant is enough for the call."""
        return (
            self.action == call.action
            and any(fnmatchcase(call.resource, _literal(pattern)) for pattern in self.resources)
            and self._holds(call)
        )

    def _holds(self, call: Call) -> bool:
        for operator, pairs in self.conditions.items():
            for key, wanted in pairs.items():
                if (operator, key) == ("StringLike", "s3:prefix"):
                    if call.prefix is None or not any(fnmatchcase(call.prefix, _literal(w)) for w in as_list(wanted)):
                        return False
                elif (operator, key) == ("Null", "s3:prefix"):
                    if (call.prefix is None) is not (wanted == "true"):
                        return False
                elif (operator, key) == ("StringEquals", "s3:ResourceAccount"):
                    continue  # every bucket of these tests is in the account of its function
                else:
                    raise AssertionError(f"{self.sid}: {operator} of {key} has no rule here")
        return True


def granted(statements: Iterable[Statement]) -> list[Grant]:
    """The grants of our statements."""
    return list(_grants([statement.document() for statement in statements]))


def attached(statements: Iterable[dict[str, Any]], text: Callable[[Any], str]) -> list[Grant]:
    """The grants of a template's statements; `text` writes references out."""
    return list(_grants([s for s in _written(list(statements), text) if s["Effect"] == "Allow"]))


def direct(grants: Iterable[Grant]) -> list[Grant]:
    """Without those of keys: services use them in the caller's name, so that no call of the caller shows it."""
    return [grant for grant in grants if not grant.through]


def refused(grants: Iterable[Grant], calls: Iterable[Call]) -> set[Call]:
    """The calls that no grant is enough for."""
    known = direct(grants)
    return {call for call in calls if not any(grant.allows(call) for grant in known)}


def unused(grants: Iterable[Grant], calls: Iterable[Call]) -> set[tuple[str, str]]:
    """Statement and action of each grant that no call needed."""
    made = list(calls)
    return {(g.sid, g.action) for g in direct(grants) if not any(g.allows(call) for call in made)}


def _grants(documents: Iterable[dict[str, Any]]) -> Iterator[Grant]:
    for one in documents:
        for action in as_list(one["Action"]):
            yield Grant(one["Sid"], action, tuple(as_list(one["Resource"])), one.get("Condition", {}))


def _literal(pattern: str) -> str:
    """IAM's pattern for `fnmatch`, which knows classes besides."""
    return pattern.replace("[", "[[]")


def _written(value: Any, text: Callable[[Any], str]) -> Any:
    """A value of a template with its references written out."""
    if isinstance(value, list):
        return [_written(member, text) for member in value]
    if isinstance(value, dict) and not set(value) & {"Ref", "Fn::GetAtt", "Fn::Join"}:
        return {name: _written(member, text) for name, member in value.items()}
    return text(value)
