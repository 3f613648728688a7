"""The templates as they are, one line a property, so that a reviewer sees what a change does to AWS.

`python -m ddb_lake_tests.infra.test_snapshots` writes them anew from the templates of the last test run.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.infra.app import TOPOLOGIES
from ddb_lake_tests.support.templates import Template, read_templates, text

SNAPSHOTS = Path(__file__).parent / "snapshots"
_HASH = re.compile(r"[0-9a-f]{64}")
_INTRINSICS = {"Ref", "Fn::Join", "Fn::GetAtt"}


def lines_of(template: Template) -> str:
    """The template without what says nothing to a reviewer: metadata, CDK's own rules, hashes of packages."""
    found = [
        f"parameter {name}" for name in sorted(template.document.get("Parameters", {})) if name != "BootstrapVersion"
    ]
    for id, resource in sorted(template.document["Resources"].items()):
        policies = [f"{m}={resource[m]}" for m in ("DeletionPolicy", "UpdateReplacePolicy") if m in resource]
        found += ["", " ".join([id, resource["Type"], *policies])]
        found += [f"  {line}" for line in _flat("", resource.get("Properties", {}))]
    return _HASH.sub("<hash>", "\n".join(found)) + "\n"


def _flat(path: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict) and not (len(value) == 1 and set(value) <= _INTRINSICS):
        for name, member in sorted(value.items()):
            yield from _flat(f"{path}.{name}" if path else name, member)
    elif isinstance(value, list) and any(isinstance(member, dict) for member in value):
        for number, member in enumerate(value):
            yield from _flat(f"{path}[{number}]", member)
    elif isinstance(value, list):
        yield f"{path}: {', '.join(map(str, value))}"
    else:
        yield f"{path}: {text(value)}".replace("\n", " ")


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_template_is_as_it_was(name: str, templates: dict[str, Template]) -> None:
    assert lines_of(templates[name]) == (SNAPSHOTS / f"{name}.txt").read_text(), (
        "if the change is meant: python -m ddb_lake_tests.infra.test_snapshots"
    )


def _rewrite(assembly: Path) -> None:
    SNAPSHOTS.mkdir(exist_ok=True)
    for name, template in read_templates(assembly, "ddb-lake-").items():
        (SNAPSHOTS / f"{name}.txt").write_text(lines_of(template))


if __name__ == "__main__":
    from ddb_lake_tests.support.synthesis import made_once

    _rewrite(made_once("agnostic", "synth"))
    sys.stdout.write(f"{SNAPSHOTS}\n")
