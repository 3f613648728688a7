"""The matrix of features: that nothing is left out of it, and a walk through some of it.

`make trust` runs every ordered pair of features, each with its return (`ddb_lake_tests.support.features`).
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from ddb_lake.cli.app import cli
from ddb_lake.config.tables import TableSettings
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.features import COMMANDS, FEATURES, SETTINGS, pairs
from ddb_lake_tests.trust.recording import ROOT

READING = {
    *(
        "athena-ddl",
        "check",
        "completion",
        "cost",
        "doctor",
        "dump",
        "iam",
        "init",
        "open",
        "query",
        "quarantine list",
        "quarantine show",
    ),
    *("report", "status", "verify"),
}
"""Commands that change nothing of a lake."""

ELSEWHERE = {
    "demo",
    "discover",
    "drop-entity",
    "erase",
    "restore",
    "sandbox",
    "sandbox advance",
    "sandbox traffic",
    "quarantine discard",
}
"""Commands that write to lakes or tables of their own, or marks on which no item depends, the list of tables, `drop-entity`, and `erase`.

After an erasure the reference has no truth for its keys: `pipeline/maintain/test_erase.py` has histories with erasures.
"""

HOW = {
    *("checks", "engine", "export", "flatten_depth", "key", "mask", "match", "match_except"),
    *("match_tags", "name", "nested", "owners"),
    *("snapshot_margin", "source", "tags"),
}
"""Settings that say how or when something is done; none of them acts on the data by itself."""


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def test_every_command_that_writes_is_in_the_matrix() -> None:
    known = {*COMMANDS, *READING, *ELSEWHERE}
    assert not set(commands(cli)) - known, "add the command to COMMANDS in features.py, or say here that it only reads"


def test_every_setting_that_acts_on_the_data_is_in_the_matrix() -> None:
    assert not set(TableSettings.model_fields) - {*SETTINGS, *HOW}, "add the setting to SETTINGS in features.py"


def test_replacement_of_a_command_or_setting_is_a_feature() -> None:
    told = {text for text in (*COMMANDS.values(), *SETTINGS.values()) if "each" not in text}
    assert told <= FEATURES.keys()


def test_the_walks_of_make_trust_have_each_pair_with_its_return() -> None:
    steps = [walk[at : at + 3] for walk in pairs(random.Random(1)) for at in range(len(walk) - 2)]
    assert all([one, other, one] in steps for one in FEATURES for other in FEATURES)


@pytest.mark.exhaustive
@pytest.mark.needs("mariadb")
def test_features_in_any_order_leave_what_the_landed_set_says() -> None:
    walks, steps = by_effort(1, 1, 2), 6
    command = [sys.executable, "-m", "ddb_lake_tests.support.features", "--seed", "3", "--walks", str(walks)]
    done = subprocess.run([*command, "--steps", str(steps)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{walks} of {walks} walks, {walks * steps} steps checked, 0 walks differed" in done.stdout
