"""Which tests run: the effort, the system packages that tests need, and the report of skipped tests."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ddb_lake_tests.support import effort, skips, system_packages
from ddb_lake_tests.support.system_packages import PACKAGES

ROOT = Path(__file__).parents[1]
MACHINE = """\
#!/bin/sh
echo "$@" >> {folder}/calls
{action}
"""
INSTALLS = (
    "for program in mariadbd mariadb-install-db postgres initdb chromium; do echo > {folder}/bin/$program; chmod +x {folder}/bin/$program;"
    " done\nprintf '#!/bin/sh\\necho openjdk version \\\\\"17.0.1\\\\\"' > {folder}/bin/java; chmod +x {folder}/bin/java"
)


class Machine:
    """A machine with nothing but an apt-get that does `action`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, action: str | None) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name in ("sh", "chmod"):
            (folder / "bin" / name).symlink_to(f"/bin/{name}")
        if action is not None:
            apt = folder / "bin" / "apt-get"
            apt.write_text(MACHINE.format(folder=folder, action=action.format(folder=folder)))
            apt.chmod(0o755)
        for name in ("CHROMIUM", "JAVA_HOME", "DDB_LAKE_REQUIRE", "DDB_LAKE_INSTALL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("PATH", str(folder / "bin"))
        monkeypatch.setenv("DDB_LAKE_SYSTEM_FOLDERS", str(folder / "bin"))
        monkeypatch.setattr(os, "geteuid", lambda: 0)

    def calls(self) -> list[str]:
        """What apt-get was called with."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


def test_absent_packages_are_installed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(tmp_path, monkeypatch, INSTALLS)
    assert [package.name for package in system_packages.missing()] == list(PACKAGES)
    assert system_packages.main() == 0
    assert (
        "Installing by apt-get, for the tests: MariaDB, PostgreSQL, Chromium, Java 17 or later"
        in capsys.readouterr().out
    )
    first = machine.calls()
    assert first[0].endswith("update") and first[1].endswith("mariadb-server-core mariadb-client-core")
    assert system_packages.main() == 0
    assert machine.calls() == first and capsys.readouterr().out == "", "the second time nothing is absent"


@pytest.mark.parametrize(
    ("action", "setting", "why"),
    [
        ("echo no route to the mirror >&2; exit 100", "", "no route to the mirror"),
        ("exit 0", "", "it is not found"),
        (None, "", "there is no apt-get"),
        ("exit 0", "no", "DDB_LAKE_INSTALL=no"),
    ],
)
def test_installation_that_fails_is_an_error_only_where_all_are_required(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    action: str | None,
    setting: str,
    why: str,
) -> None:
    Machine(tmp_path, monkeypatch, action)
    monkeypatch.setenv("DDB_LAKE_INSTALL", setting)
    assert system_packages.main() == 0
    assert capsys.readouterr().out.count("Not installed: ") == len(PACKAGES)
    monkeypatch.setenv("DDB_LAKE_REQUIRE", "all")
    assert system_packages.main() == 1
    printed = capsys.readouterr()
    told = [line for line in printed.out.splitlines() if line.startswith("Not installed: ")]
    assert len(told) == len(PACKAGES) and all(line.endswith(why) for line in told)
    assert "apt-get install -y --no-install-recommends mariadb-server-core" in printed.err


def test_user_who_is_not_root_needs_sudo_without_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert system_packages.apt_get() == ([], "apt-get needs root or passwordless sudo")
    assert system_packages.command([PACKAGES["java"]]).startswith("sudo apt-get update && sudo apt-get install")
    sudo = machine.folder / "bin" / "sudo"
    sudo.write_text("#!/bin/sh\n")
    sudo.chmod(0o755)
    apt, _ = system_packages.apt_get()
    assert apt[0] == str(sudo) and apt[-1] == str(machine.folder / "bin" / "apt-get")


def report(nodeid: str, reason: str) -> Any:
    return SimpleNamespace(
        nodeid=nodeid, skipped=True, longrepr=("file.py", 1, f"Skipped: {reason}"), outcome="skipped"
    )


def test_summary_states_what_was_skipped_why_and_the_command() -> None:
    absent = PACKAGES["mariadb"].reason
    text = "\n".join(
        skips.summary([report("a.py::one", absent), report("a.py::two", absent), report("b.py::three", "by hand")])
    )
    assert text.startswith("Skipped: 3.")
    assert f"{absent}. Tests: 2\n    a.py: 2" in text and "by hand. Tests: 1\n    b.py: 1" in text
    assert "apt-get install -y --no-install-recommends mariadb-server-core mariadb-client-core\n" in text
    assert list(skips.summary([])) == []


def test_skip_is_a_failure_where_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DDB_LAKE_REQUIRE", raising=False)
    skipped = report("a.py::one", "by hand")
    skips.fail_if_required(skipped)
    assert skipped.outcome == "skipped"
    monkeypatch.setenv("DDB_LAKE_REQUIRE", "all")
    skips.fail_if_required(skipped)
    assert skipped.outcome == "failed" and "by hand" in skipped.longrepr
    monkeypatch.setenv("DDB_LAKE_REQUIRE", "some")
    with pytest.raises(ValueError, match="expected `all`"):
        system_packages.required()


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("quick", ["plain", "more_examples"]),
        ("exhaustive", ["exhaustive", "more_examples"]),
        ("most", ["exhaustive", "more_examples"]),
        ("all", ["plain", "exhaustive", "more_examples"]),
    ],
)
def test_effort_chooses_tests_and_leaves_none_out_of_both(
    monkeypatch: pytest.MonkeyPatch, chosen: str, expected: list[str]
) -> None:
    class Item(SimpleNamespace):
        def get_closest_marker(self, name: str) -> str | None:
            return name if name == self.mark else None

    gone: list[Any] = []
    config: Any = SimpleNamespace(hook=SimpleNamespace(pytest_deselected=lambda items: gone.extend(items)))
    items: list[Any] = [Item(mark=mark) for mark in ("plain", "exhaustive", "more_examples")]
    monkeypatch.setattr(effort, "_effort", chosen)
    effort.select(config, items)
    assert [item.mark for item in items] == expected
    assert len(gone) == 3 - len(expected)
    assert effort.by_effort(1, 2) == (1 if chosen == "quick" else 2)
    assert effort.by_effort(1, 2, 3) == {"quick": 1, "exhaustive": 2, "most": 3, "all": 3}[chosen]
    few = effort.cases(range(4), quick=[0], exhaustive=[2])
    assert [one.values[0] for one in few] == ([0, 2] if chosen in ("quick", "exhaustive") else [0, 1, 2, 3])
    assert [one.values[0] for one in few if not one.marks] == [0]
    assert [one.values[0] for one in effort.cases(range(4), quick=[0])] == [0, 1, 2, 3]


def test_long_tests_start_first_and_the_others_keep_their_order() -> None:
    tests = Path(__file__).parent
    assert [name for name in effort.LONG if not (tests / name).is_file()] == []
    names = [
        "a/test_one.py::test_b",
        f"ddb_lake_tests/{effort.LONG[3]}::test_c[x]",
        "a/test_one.py::test_a",
        f"{effort.LONG[0]}::t",
    ]
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
    effort.start_long_first(items)
    assert [item.nodeid for item in items] == [names[1], names[3], names[0], names[2]]


def test_server_of_a_test_ends_when_the_test_process_is_killed() -> None:
    program = (
        "import subprocess, sys, time\n"
        "from ddb_lake_tests.support.child_processes import killed_with_parent\n"
        "server = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "print(subprocess.Popen(server, start_new_session=True, preexec_fn=killed_with_parent).pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    tests = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    server = os.pidfd_open(int(tests.stdout.readline()))
    try:
        tests.kill()
        tests.wait()
        assert select.select([server], [], [], 120)[0], "the server still runs"
    finally:
        os.close(server)
        tests.stdout.close()
