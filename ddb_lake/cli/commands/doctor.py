"""`ddb-lake doctor`: what is missing or misconfigured here, and how to mend it."""

from __future__ import annotations

from collections import Counter

import click

from ddb_lake.cli.command import command, json_option
from ddb_lake.cli.doctor.finding import Finding
from ddb_lake.cli.invocation import Invocation, pass_invocation
from ddb_lake.cli.output.colour import styled
from ddb_lake.cli.output.tables import printable
from ddb_lake.cli.output.writers import write_document

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red", "skip": "blue"}


@command(
    "doctor", "Find what is missing or misconfigured.", "ddb-lake doctor", "ddb-lake --config lake.yaml doctor --json"
)
@json_option
@pass_invocation
def doctor(invocation: Invocation, as_json: bool) -> None:
    """Check installation, configuration, warehouse, catalog, files, AWS and clock, and state how to repair what is wrong.

    The command looks for every file that a table of the lake names, and compares its size, with one listing for each table.

    Reads only, but that opening a catalog may create its empty namespace. What needs AWS is skipped where nothing
    configured needs it. Exit status 1 if a check fails.
    """
    from ddb_lake.cli.doctor.aws import examine_aws
    from ddb_lake.cli.doctor.health import examine_sensors
    from ddb_lake.cli.doctor.local import (
        examine_configuration,
        examine_files,
        examine_installation,
        examine_lake,
    )

    findings: list[Finding] = []

    def report(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            _show(finding)

    examine_installation(report)
    settings = examine_configuration(report, invocation)
    if settings is not None:
        examine_lake(report, settings)
        examine_files(report, settings)
        examine_aws(report, settings)
        examine_sensors(report)
    counts = Counter(finding.state for finding in findings)
    if as_json:
        write_document({"ok": not counts["fail"], "checks": findings})
    else:
        click.echo(
            f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} failed, {counts['skip']} skipped."
        )
    if counts["fail"]:
        click.get_current_context().exit(1)


def _show(finding: Finding) -> None:
    state = styled(f"{finding.state:<4}", fg=_COLOURS[finding.state])
    click.echo(f"{state}  {finding.check}: {printable(finding.found)}")
    if finding.next_step:
        click.echo(f"      next: {finding.next_step}")
