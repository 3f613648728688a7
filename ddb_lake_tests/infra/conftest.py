"""The example deployment, synthesised once for all processes and runs with the same sources.

A synthesis costs ten seconds of CPU, and pytest-xdist spreads these tests over processes: the first one that comes does
it, under a lock, into a folder named by the contents of everything it depends on.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ddb_lake.config import load_settings
from ddb_lake.infra.config import load_infra
from ddb_lake.infra.deployment import Deployment, resolve_deployment
from ddb_lake_tests.support.synthesis import EXAMPLE, made_once
from ddb_lake_tests.support.templates import Template, read_templates


@pytest.fixture(autouse=True)
def _users_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that the adopting deployment packages can be imported, as in its functions."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "adopting"))


@pytest.fixture(scope="session")
def agnostic() -> Path:
    """The assembly without an explicit environment, made as `cdk synth` makes it. A finding of cdk-nag fails it."""
    return made_once("agnostic", as_cdk=EXAMPLE)


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
def deployment() -> Deployment:
    settings = load_infra(EXAMPLE)
    return resolve_deployment(settings, load_settings(settings.lake))
