"""Damaged and missing files: never a wrong or empty result with exit status 0, and an error that names the file.

The cases are derived: every kind of file that a lake has, every way to damage it, every command that reads.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ddb_lake.cli.app import cli
from ddb_lake.cli.doctor.subject import LakeSubject
from ddb_lake.cli.doctor.warehouse import examine_files
from ddb_lake.config import load_settings
from ddb_lake_tests.support.effort import by_effort
from ddb_lake_tests.support.export_files import HOUR_US, MINUTE_US, T0_US, change, full, item, land
from ddb_lake_tests.support.file_damage import Damage, damages, kinds, make_lake

READS = (
    ("dump", "orders"),
    ("query", "SELECT count(*), sum(v) FROM orders", "--json"),
    ("query", "SELECT count(*) FROM orders_changes", "--json"),
    ("dump", "orders", "--as-of", "2026-03-01T09:31:30Z"),
    ("status", "--json"),
)
WRITES = (("apply", "orders", "landing/more"),)
SPOILED_FOR_WRITES = re.compile(r"missing|replaced|cut to \d{3,} of")


@dataclass(frozen=True)
class Stand:
    """A sound lake, what its commands answer, and where copies of it are damaged."""

    sound: Path
    copies: Path
    answers: dict[tuple[str, ...], str]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), prog_name="ddb-lake")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("damage")
    home = folder / "lake"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "AWS_PROFILE",
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ENDPOINT_URL",
            "DDB_LAKE_CONFIG",
        ):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", str(folder / "none"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "none"))
        patch.chdir(home)
        make_lake(home)
        answers = {}
        for command in READS:
            result = run(*command)
            assert result.exit_code == 0, result.output
            answers[command] = result.stdout
        yield Stand(home, folder, answers)


def timeless(answer: str) -> str:
    """An answer without what grows with time; `dump` has no order."""
    return "\n".join(sorted(re.sub(r'"lag_s": [0-9.e+]+', "", answer).splitlines()))


def cases(stand: Stand) -> Iterator[tuple[str, Path, Path, str, Damage]]:
    for kind, path, other in kinds(stand.sound):
        for what, damage in damages(path):
            yield kind, path, other, what, damage


def spoiled(stand: Stand, path: Path, other: Path, damage: Damage) -> Callable[[], None]:
    """Damage a file in place; gives what puts it back."""
    kept = path.read_bytes()
    times = path.stat()
    damage(path, other)

    def back() -> None:
        if path.is_dir():
            shutil.rmtree(path)
        path.write_bytes(kept)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    return back


def verdict(stand: Stand, command: tuple[str, ...], result: Result, path: Path) -> str | None:
    """What is wrong with a command's result over a damaged file; None if nothing is."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"raised {result.exception!r}"
    if result.exit_code == 0:
        same = timeless(result.stdout) == timeless(stand.answers[command])
        return None if same else f"exit status 0 with another answer: {result.stdout[:100]!r}"
    if "Run the command again" in result.stderr:
        return f"advises to run it again: {result.stderr}"
    if "unexpected" in result.stderr or result.exit_code not in (1,):
        return f"exit status {result.exit_code}: {result.stderr}"
    if path.name not in result.stderr:
        return f"does not name the file: {result.stderr}"
    return None


def doctor_verdict(stand: Stand, path: Path) -> str | None:
    """What is wrong with the doctor's findings over a damaged file; None if nothing is."""
    file = Path("ddb_lake.yaml")
    found = list(examine_files(LakeSubject(file, load_settings(file))))
    if any(finding.state == "fail" and path.name in finding.found and finding.next_step for finding in found):
        return None
    unharmed = path.suffix == ".db" and timeless(run("status", "--json").stdout) == timeless(
        stand.answers["status", "--json"]
    )
    return None if unharmed else f"the doctor does not find it: {found}"


def test_sound_lake_has_all_files(stand: Stand) -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.stdout
    assert "orders_changes: files" in result.stdout


@pytest.mark.more_examples
def test_no_damage_gives_a_wrong_answer_and_each_message_names_the_file(stand: Stand) -> None:
    """In `make test` each damage meets one command in turn, in an exhaustive run all of them."""
    faults = []
    number = 0
    for kind, path, other, what, damage in cases(stand):
        back = spoiled(stand, path, other, damage)
        try:
            for command in by_effort([READS[number % len(READS)]], list(READS)):
                number += 1
                fault = verdict(stand, command, run(*command), path)
                if fault:
                    faults.append(f"{kind} {what}: {' '.join(command)[:40]}: {fault}")
            fault = doctor_verdict(stand, path)
            if fault:
                faults.append(f"{kind} {what}: {fault}")
        finally:
            back()
    assert faults == [], f"{len(faults)} of {number}:\n" + "\n".join(faults)


@pytest.mark.exhaustive
def test_command_that_writes_over_damage_stops_or_leaves_a_right_table(stand: Stand) -> None:
    """After it, with the damaged file put back, the table is as before or as the command makes it over a sound lake."""
    land(stand.sound / "landing/more/1", change(T0_US + 3 * MINUTE_US, item("orders20", v=9)))
    full([item("orders01", v=7)], at_us=T0_US + HOUR_US).write(stand.sound / "landing/export/later")
    keep, lake = stand.copies / "kept", stand.sound / "lake"
    shutil.copytree(lake, keep, symlinks=True)

    def reset() -> None:
        shutil.rmtree(lake)
        shutil.copytree(keep, lake, symlinks=True)

    def contents() -> list[str]:
        result = run("dump", "orders")
        assert result.exit_code == 0, result.output
        return sorted(result.stdout.splitlines())

    faults = []
    for command in WRITES:
        before = contents()
        assert run(*command).exit_code == 0
        after = contents()
        reset()
        for kind, path, other in kinds(stand.sound):
            for what, damage in damages(path):
                if not SPOILED_FOR_WRITES.match(what):
                    continue
                sound = path.read_bytes()
                damage(path, other)
                result = run(*command)
                where = f"{kind} {what}: {command[0]}"
                if "Run the command again" in result.stderr or "unexpected" in result.stderr:
                    faults.append(f"{where}: {result.stderr}")
                elif result.exit_code not in (0, 1):
                    faults.append(f"{where}: exit status {result.exit_code}: {result.stderr}")
                elif result.exit_code == 1 and path.name not in result.stderr:
                    faults.append(f"{where}: does not name the file: {result.stderr}")
                if result.exit_code == 1 or kind != "catalog":  # a catalog that took the command's commit is newer
                    path.write_bytes(sound)
                found = contents()
                if found != (after if result.exit_code == 0 else before):
                    faults.append(f"{where}: exit status {result.exit_code}, and {len(found)} items are there")
                reset()
    assert faults == [], "\n".join(faults)
