"""The example deployment, synthesised once for all processes and runs with the same sources.

A synthesis costs ten seconds of CPU, and pytest-xdist spreads these tests over processes: the first one that comes does
it, under a lock, into a folder named by the contents of everything it depends on.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import pytest

import ddb_lake
from ddb_lake.config import load_settings
from ddb_lake.infra.config import load_infra
from ddb_lake.infra.plan import Plan, make_plan
from ddb_lake_tests.support.templates import Template, read_templates

_PACKAGE = Path(ddb_lake.__file__).parent
EXAMPLE = _PACKAGE / "infra" / "example.yaml"
_KEPT_S = 3600
_SOURCES = ("infra/**/*.py", "infra/*.yaml", "infra/*.json", "core/*.py", "lambdas/*.py", "aurora/*.py", "*.py")


def made_once(name: str, *arguments: str, may_fail: bool = False) -> Path:
    """The folder that `python -m ddb_lake.infra …  --out FOLDER` fills."""
    files = sorted({path for pattern in _SOURCES for path in _PACKAGE.glob(pattern)})
    digest = hashlib.sha256(metadata.version("aws-cdk-lib").encode() + metadata.version("cdk-nag").encode())
    files += sorted(path for kind in ("yaml", "json") for path in Path(__file__).parent.glob(f"*/*.{kind}"))
    for path in files:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    root = Path(tempfile.gettempdir(), f"ddb-lake-infra-{os.getuid()}")
    root.mkdir(mode=0o700, exist_ok=True)
    folder = root / f"{name}-{digest.hexdigest()[:20]}"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            for old in root.glob(f"{name}-*"):
                if time.time() - old.stat().st_mtime > _KEPT_S:  # a younger one may be in use by another run
                    shutil.rmtree(old)
            unfinished = Path(tempfile.mkdtemp(dir=root, prefix="unfinished-"))
            command = [sys.executable, "-m", "ddb_lake.infra", *arguments, "--out", str(unfinished)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert may_fail or done.returncode == 0, done.stderr[-4000:]
            unfinished.rename(folder)
    return folder


@pytest.fixture(scope="session")
def agnostic() -> Path:
    """The assembly without an explicit environment; cdk-nag had nothing to say, else there would be none."""
    return made_once("agnostic", "synth")


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The assembly bound to accounts and Region, in which acknowledgements are recorded and findings reported."""
    return made_once("recorded", "synth", "--explicit", "--record", may_fail=True)


@pytest.fixture(scope="session")
def plain() -> Path:
    """The plain templates and packages."""
    return made_once("plain", "templates")


@pytest.fixture(scope="session")
def templates(agnostic: Path) -> dict[str, Template]:
    """The stacks' templates by the topology's name."""
    return read_templates(agnostic, "ddb-lake-")


@pytest.fixture(scope="session")
def adopting_assembly() -> Path:
    """The assembly of a deployment that adopts whatever can be adopted; its table `events` is keyed by sequence."""
    config = Path(__file__).parent / "adopting" / "infra.yaml"
    return made_once("adopting", "synth", "--config", str(config), "--record", may_fail=True)


@pytest.fixture(scope="session")
def adopting(adopting_assembly: Path) -> dict[str, Template]:
    """Its templates by the topology's name."""
    return read_templates(adopting_assembly, "ddb-lake-")


@pytest.fixture(scope="session")
def plan() -> Plan:
    settings = load_infra(EXAMPLE)
    return make_plan(settings, load_settings(settings.lake))
