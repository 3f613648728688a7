"""Plain `cdk synth`, `diff` and `deploy`: cdk.json, and the file of the deployment that its command takes.

The session's assembly (`agnostic`) is made by the command of cdk.json, so that every test of templates tests it.
"""

from __future__ import annotations

import json
from pathlib import Path

from ddb_lake.infra.__main__ import cdk_config
from ddb_lake.infra.config import STACK_NAMES


def test_command_of_cdk_json_fills_the_assembly_that_cdk_deploys(agnostic: Path) -> None:
    manifest = json.loads((agnostic / "manifest.json").read_text())
    stacks = {id for id, artifact in manifest["artifacts"].items() if artifact["type"] == "aws:cloudformation:stack"}
    assert stacks == {f"ddb-lake-{name}" for name in STACK_NAMES}


def test_deployment_is_that_of_the_context_then_the_folders_then_none(tmp_path: Path) -> None:
    assert cdk_config(None, tmp_path) is None
    assert cdk_config("{}", tmp_path) is None
    (tmp_path / "infra.yaml").touch()
    assert cdk_config("{}", tmp_path) == tmp_path / "infra.yaml"
    assert cdk_config('{"config": "other.yaml"}', tmp_path) == tmp_path / "other.yaml"
