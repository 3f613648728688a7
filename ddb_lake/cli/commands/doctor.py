"""`ddb-lake doctor`: what is missing or misconfigured, and how to correct it."""

from __future__ import annotations

from collections import Counter

import click

from ddb_lake.cli.command import command, json_option
from ddb_lake.cli.doctor.finding import Finding
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.terminal import Styled, echo
from ddb_lake.cli.output.writers import write_document

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "unknown": "yellow"}


@command(
    "doctor", "Find what is missing or misconfigured.", "ddb-lake doctor", "ddb-lake --config lake.yaml doctor --json"
)
@json_option
@pass_invocation
def doctor(invocation: Invocation, as_json: bool) -> None:
    """Check installation, configuration, warehouse, catalog, files, AWS and clock, and print how to correct what is wrong.

    For each table of the lake, one listing shows whether every file that the table names exists with its size.

    The command reads only; opening a catalog may create its empty namespace. Checks that need AWS are skipped where
    nothing configured needs it. A check that cannot be made is `unknown`. The exit status is 1 if a check fails.
    """
    from ddb_lake.cli.doctor.registry import examine

    findings: list[Finding] = []
    for finding in examine(invocation):
        findings.append(finding)
        if not as_json:
            _print_finding(finding)
    counts = Counter(finding.state for finding in findings)
    if as_json:
        write_document({"ok": not (counts["fail"] or counts["unknown"]), "checks": findings})
    else:
        echo(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed, {counts['unknown']} unknown.")
    if counts["fail"]:
        click.get_current_context().exit(1)


def _print_finding(finding: Finding) -> None:
    state = Styled(f"{finding.state:<4}", fg=_COLOURS[finding.state])
    echo(state, f"  {finding.check}: {finding.found}")
    if finding.next_step:
        echo(f"      next: {finding.next_step}")
