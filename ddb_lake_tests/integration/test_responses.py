"""The members of the responses to every operation that commands call: of the sandbox, and of MiniStack."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ddb_lake.sandbox import Sandbox, Traffic
from ddb_lake_tests.support.command_line import Run
from ddb_lake_tests.support.command_line import run as run
from ddb_lake_tests.support.docs_blocks import DOCS, table
from ddb_lake_tests.support.emulated_path import (
    KINESIS,
    STREAMS,
    SandboxAccount,
    Service,
    landed_changes,
    make_buckets,
    make_table,
    used,
    write_configuration,
)
from ddb_lake_tests.support.ministack import MiniStack
from ddb_lake_tests.support.recorded_calls import Members, watching

LOAD = ("load", "orders", "--scan", "--read-rate", "10000")
COMMANDS = (
    ("sync",),
    ("doctor",),
    ("status",),
    ("check",),
    ("verify", "orders"),
    ("verify", "orders", "--full", "--scan"),
    ("compact", "orders"),
    ("dump", "orders"),
    ("export", "orders"),
    ("repair", "orders"),
)
OF_THE_SANDBOX = {("s3", "CreateMultipartUpload"), ("s3", "UploadPart"), ("s3", "CompleteMultipartUpload")}
"""Calls of the sandbox, in this process: it writes exports so."""


@pytest.mark.exhaustive
def test_responses_differ_as_the_guide_states(ministack: MiniStack, run: Run, tmp_path: Path) -> None:
    theirs = members_of_responses(ministack.account(), run, tmp_path / "ministack")
    with Sandbox() as sandbox:
        ours = members_of_responses(SandboxAccount(sandbox), run, tmp_path / "sandbox")
    assert theirs.keys() ^ ours.keys() == OF_THE_SANDBOX
    found = {
        f"`{service}.{operation}`": {
            "only the sandbox": names(ours[service, operation] - theirs[service, operation]),
            "only MiniStack": names(theirs[service, operation] - ours[service, operation]),
        }
        for service, operation in sorted(theirs.keys() & ours.keys())
        if theirs[service, operation] != ours[service, operation]
    }
    for name, row in found.items():  # the lines of the guide's table
        print(f"| {name} | {row['only the sandbox']} | {row['only MiniStack']} |")
    page = (DOCS / "guides" / "emulators.md").read_text(encoding="utf-8")
    stated = table(page, "operation")
    assert {name: {column: row[column] for column in found[name]} for name, row in stated.items()} == found


def names(members: set[str]) -> str:
    """The members as a cell of a table, without those within a member that is listed."""
    outer = [path for path in sorted(members) if not any(path.startswith(f"{other}[]") for other in members)]
    return ", ".join(f"`{path}`" for path in outer)


def members_of_responses(service: Service, run: Run, folder: Path) -> Members:
    """Run each command on a table that changed, and return the members of all responses."""
    members: Members = defaultdict(set)
    folder.mkdir()
    make_table(service)
    make_buckets(service)
    dynamodb = service.client("dynamodb")
    recovery = {"PointInTimeRecoveryEnabled": True}
    dynamodb.update_continuous_backups(TableName="orders", PointInTimeRecoverySpecification=recovery)
    KINESIS.start(service)  # the table feeds a Kinesis stream too, which commands describe
    traffic = Traffic(dynamodb, seed=3)
    traffic.insert(30)
    write_configuration(folder / "ddb_lake.yaml", service, landed_changes(service, STREAMS), "glue")
    with used(service.environment(), folder), pytest.MonkeyPatch.context() as patch:
        with watching(patch, members=members):
            run(*LOAD)
        traffic.run(20)
        with watching(patch, members=members):
            for command in COMMANDS:
                print(command, run(*command).output[-3000 if command == ("check",) else -500 :])
            as_of = datetime.now(UTC).isoformat()
            print(run("restore", "orders", "--as-of", as_of, "--to", "copy", "--create", "--yes").output)
    return members
