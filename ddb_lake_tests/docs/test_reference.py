"""The reference pages are complete, and workflows call existing make targets."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ddb_lake.cli.app import COMMANDS
from ddb_lake.config import LakeSettings
from ddb_lake.docs import markdown, reference
from ddb_lake.infra.config import InfraSettings
from ddb_lake_tests.support.docs_blocks import DOCS, ROOT
from ddb_lake_tests.support.docs_settings import settings


@pytest.mark.parametrize("model", [LakeSettings, InfraSettings])
def test_every_setting_is_described(model: type[BaseModel]) -> None:
    assert list(markdown.undescribed(model)) == []


def test_configuration_has_every_setting_below_its_heading() -> None:
    page = reference.configuration()
    for path, _, _ in settings():
        place, _, name = path.rpartition(".")
        section = page.partition(f"## {f'`{place}`' if place else 'The lake'}\n")[2].partition("\n## ")[0]
        assert f"| `{name}` |" in section, path


def test_command_line_has_every_command_with_its_examples() -> None:
    page = reference.command_line()
    assert [name for name in COMMANDS if f"\n## ddb-lake {name}\n" not in page] == []
    assert page.count("```sh\n") >= len(COMMANDS)


def test_assets_are_described() -> None:
    page = reference.assets()
    assert not re.search(r"\| +\|$", page, re.MULTILINE), "something has no description"
    for name in ("current/orders", "rows_match_manifest", "sample_matches_source", "ddb_lake_arrivals"):
        assert f"`{name}`" in page


def test_errors_have_their_exit_status() -> None:
    page = reference.errors()
    assert "| `ConfigError` | The configuration is wrong or incomplete. | 2 |" in page
    assert "| `CommitStateUnknown` |" in page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <b> and `<c>`", r"a \<b\> and `<c>`"),
        ("x_y|z `x_y|z`", r"x\_y\|z `x_y|z`"),
        ("  spread\n   out ", "spread out"),
    ],
)
def test_prose_is_taken_literally(text: str, expected: str) -> None:
    assert markdown.prose(text) == expected


def test_examples_of_the_documentation_are_what_they_are_named() -> None:
    assert {path.suffix for path in (DOCS / "examples").rglob("*.*")} <= {".json", ".sql", ".env"}


@pytest.mark.parametrize("name", ["ci", "release"])
def test_workflow_calls_what_there_is(name: str) -> None:
    document: dict[Any, Any] = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    steps = [step for job in document["jobs"].values() for step in job["steps"]]
    commands = "\n".join(step.get("run", "") for step in steps)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert document["permissions"] == {"contents": "read"}
    assert set(re.findall(r"^\s*make ([a-z-]+)", commands, re.MULTILINE)) <= targets
    assert ".ci/run" in commands
