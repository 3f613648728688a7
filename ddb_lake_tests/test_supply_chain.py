"""What CI, `make` and the docs install: actions by commit, tools by hash, and no package by a name that is not ours yet."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LOCKED = sorted((ROOT / ".ci").glob("*.txt"))


def tracked(*patterns: str) -> list[Path]:
    """The files of the repository that match."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=False, capture_output=True, text=True)
    if listed.returncode:
        pytest.fail("git does not list the files of the repository")
    return [ROOT / name for name in listed.stdout.split()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = re.findall(r"uses:\s*(\S+)(.*)", path.read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.match(r"  # v\d+\.\d+\.\d+$", comment), f"{action} needs its version in a comment"


def test_tools_are_installed_by_hash() -> None:
    texts = {path: path.read_text() for path in [*WORKFLOWS, ROOT / "Makefile", ROOT / ".ci" / "run"]}
    for path, text in texts.items():
        for line in text.splitlines():
            if re.search(r"\bpip install\b|\bpip'? download\b", line):
                assert "--require-hashes" in line, f"{path.name}: {line}"
            assert "tool run" not in line and "uvx" not in line and "pipx" not in line, f"{path.name}: {line}"
            if "uv build" in line:
                assert "--require-hashes" in line, line


def test_release_makes_links_and_addresses_absolute(tmp_path: Path) -> None:
    for name in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, ROOT / ".ci" / "release_metadata.py", "https://git.example/owner/name/", "v1.2.3"]
    subprocess.run(command, cwd=tmp_path, check=True)

    text = re.sub(r"```.*?```", "", (tmp_path / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert "(https://git.example/owner/name/blob/v1.2.3/ddb_lake/docs/tutorial.md)" in text
    assert "(https://git.example/owner/name/raw/v1.2.3/ddb_lake/docs/images/lineage.png)" in text
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Source"] == "https://git.example/owner/name"
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode, "it is not done twice"


def test_release_has_a_bill_of_materials() -> None:
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    assert re.search(r"uv export .*--format cyclonedx1\.5 --output-file dist/\S+\.cdx\.json", text)


def test_sdist_leaves_out_what_dbt_writes() -> None:
    sdist = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]
    ignored = {line.strip("/") for line in (ROOT / "dbt_project/.gitignore").read_text().split()}
    assert {f"dbt_project/{name}" for name in ("target", "logs")} <= set(sdist["exclude"])
    assert {"target", "logs"} <= ignored


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_each_tool_has_one_version_and_its_hashes(path: Path) -> None:
    entries = re.split(
        r"\n(?=\S)", "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    )
    assert entries
    for entry in entries:
        assert re.match(r"[\w.-]+==[\w.]+", entry) and "--hash=sha256:" in entry, entry[:80]


def test_nothing_is_installed_by_a_name_that_is_not_published() -> None:
    """An attacker could register the name on an index. The lock file and `pyproject.toml` mean the project itself."""
    pattern = re.compile(
        r"(?:pip3?|uv|pipx|poetry) (?:install|add|run|tool run)\b[^\n`]*?\bddb[-_]lake(?![\w./])|uvx ddb|ddb-lake\["
    )
    own = {ROOT / "pyproject.toml", ROOT / "uv.lock", Path(__file__)}
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked("*.py", "*.md", "*.yml", "*.yaml", "*.toml", "Makefile", ".ci/*")
        if path not in own and path.is_file()
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert found == []
