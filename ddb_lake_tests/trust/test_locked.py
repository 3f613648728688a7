"""Dependencies are pinned with hashes, from one registry. What is known of them as vulnerable `make audit` asks."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
REGISTRY = "https://pypi.org/simple"


def packages() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return found


def test_every_file_of_every_dependency_has_a_hash() -> None:
    for package in packages():
        if package["source"].get("editable") or package["source"].get("virtual"):
            continue
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files, package["name"]
        for file in files:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]), file
            assert file["url"].startswith("https://files.pythonhosted.org/"), file


def test_every_dependency_comes_from_the_one_registry() -> None:
    sources = [package["source"] for package in packages()]
    others = [source for source in sources if source != {"registry": REGISTRY}]
    assert others == [{"editable": "."}]


def test_every_direct_dependency_is_bounded_and_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {package["name"]: package["version"] for package in packages()}
    for wanted in project["dependencies"]:
        name = re.split(r"[\[<>=!~; ]", wanted, maxsplit=1)[0].lower().replace("_", "-")
        assert name in locked, wanted
        assert re.search(r"[<>=~]", wanted), f"{wanted} takes any release"


def test_audit_asks_about_everything_locked_and_fails_if_it_could_not_ask() -> None:
    """Without `--strict` the auditor ignores packages for which the registry has no advisories."""
    said = subprocess.run(["make", "-n", "audit"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    export, audit = (line.split() for line in said.splitlines() if " export " in line or "bin/pip-audit " in line)
    assert {"--locked", "--all-groups", "--all-extras"} <= set(export)
    assert {"--strict", "--disable-pip", "--require-hashes"} <= set(audit)
    assert audit[audit.index("-r") + 1] == export[export.index("--output-file") + 1]
