"""Plain templates: parameters for every name, nothing of CDK's bootstrap, packages beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ddb_lake.infra.config import STACK_NAMES
from ddb_lake_tests.support.templates import read_templates

_EXAMPLE = ("111122223333", "444455556666", "orders")


def test_every_topology_but_the_replica_has_a_template(plain: Path) -> None:
    assert set(read_templates(plain)) == set(STACK_NAMES) - {"replica"}


def test_no_account_or_bucket_of_the_example_is_left_in_a_template(plain: Path) -> None:
    for template in read_templates(plain).values():
        text = json.dumps(template.document)
        assert "BootstrapVersion" not in text and "cdk-hnb659fds" not in text
        assert not [name for name in _EXAMPLE if name in text], template.name


def test_every_parameter_is_used_described_and_in_the_readme(plain: Path) -> None:
    readme = (plain / "README.md").read_text()
    for template in read_templates(plain).values():
        section = readme.partition(f"## {template.name}.template.json")[2].partition("\n## ")[0]
        for id, parameter in template.document["Parameters"].items():
            assert parameter["Description"]
            assert f"| `{id}` |" in section


def test_readme_names_the_certificates_that_the_loader_trusts(plain: Path) -> None:
    """Guards plain templates from the example's certificate, with which no database is reached."""
    assert "trusts the certificates of `example_certificates.pem`" in (plain / "README.md").read_text()


def test_functions_take_the_packages_that_lie_beside_the_template(plain: Path) -> None:
    named = set()
    for template in read_templates(plain).values():
        for function in template.resources("AWS::Lambda::Function").values():
            named.add(_last(function["Code"]["S3Key"]))
    assert named == {path.name for path in plain.glob("*.zip")}


def test_table_has_one_or_two_key_attributes_as_the_parameters_say(plain: Path) -> None:
    table = read_templates(plain)["same-account"].only("AWS::DynamoDB::Table")
    condition, both, one = table["KeySchema"]["Fn::If"]
    assert condition == "HasSortKey"
    assert [entry["KeyType"] for entry in both] == ["HASH", "RANGE"]
    assert [entry["AttributeName"] for entry in one] == [{"Ref": "PartitionKeyName"}]


def _last(value: Any) -> str:
    return str(value["Fn::Join"][1][-1])
