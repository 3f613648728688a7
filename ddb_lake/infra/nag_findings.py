"""Compare cdk-nag's findings with the acknowledgements: each must have its counterpart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddb_lake.errors import CheckFailed

METADATA = "ddb-lake:acknowledged"
"""The type of the metadata that records an acknowledgement in an assembly."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Findings without an acknowledgement, and acknowledgements without a finding, as `path: rule`."""

    unacknowledged: tuple[str, ...]
    unused: tuple[str, ...]
    acknowledged: int

    @property
    def clean(self) -> bool:
        """Whether both are empty."""
        return not self.unacknowledged and not self.unused


def compare(assembly: Path) -> Outcome:
    """Compare an assembly synthesised with acknowledgements recorded and not applied."""
    findings = _findings(assembly / "validation-report.json")
    given = _given(assembly)
    open_findings = [f for f in findings if not any(_covers(one, f) for one in given)]
    unused = [one for one in given if not any(_covers(one, f) for f in findings)]
    return Outcome(
        tuple(f"{path}: {rule}" for path, rule in open_findings),
        tuple(f"{path}: {rule}" for path, rule in unused),
        len(findings) - len(open_findings),
    )


def _covers(given: tuple[str, str], found: tuple[str, str]) -> bool:
    return given[1] == found[1] and (found[0] == given[0] or found[0].startswith(f"{given[0]}/"))


def _findings(report: Path) -> list[tuple[str, str]]:
    if not report.exists():
        raise CheckFailed(f"{report} was not written: synthesis failed before cdk-nag ran; run it alone to see why")
    document = json.loads(report.read_text(encoding="utf-8"))
    return sorted(
        {
            (construct["constructPath"], violation["ruleName"])
            for plugin in document["pluginReports"]
            for violation in plugin["violations"]
            for construct in violation["violatingConstructs"]
        }
    )


def _given(assembly: Path) -> list[tuple[str, str]]:
    found = set()
    for path in sorted(assembly.glob("*.metadata.json")):
        document: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
        for construct, entries in document.items():
            found |= {(construct.lstrip("/"), e["data"]["id"]) for e in entries if e["type"] == METADATA}
    return sorted(found)


def checkov_outcome(report: Path, assembly: Path) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Checkov's failures and unused skips (`file: resource: check`), and the number of passed checks."""
    document = json.loads(report.read_text(encoding="utf-8"))
    results = [one["results"] for one in (document if isinstance(document, list) else [document])]
    failed = _checks(results, "failed_checks")
    skipped = _checks(results, "skipped_checks")
    wanted = {
        f"{path.name}: {id}: {skip['id']}"
        for path in assembly.glob("*.template.json")
        for id, resource in json.loads(path.read_text(encoding="utf-8"))["Resources"].items()
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    }
    return tuple(sorted(failed)), tuple(sorted(wanted - skipped)), len(_checks(results, "passed_checks"))


def _checks(results: list[dict[str, Any]], kind: str) -> set[str]:
    return {
        f"{Path(check['file_path']).name}: {check['resource'].rpartition('.')[2]}: {check['check_id']}"
        for result in results
        for check in result.get(kind, [])
    }
