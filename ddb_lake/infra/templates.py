"""Plain CloudFormation templates, for deployments without CDK: each name of the deployment is a parameter.

The same functions as for a stack create a template, from a deployment whose strings are parameters. The packages of the
functions lie beside the templates; their names carry a hash, so that an update of the code is an update of the stack.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_s3 as s3

from ddb_lake.infra.app import TOPOLOGIES, WITH_BUCKET_KEYS, bucket_keys, certificates_for, context, user_code_for
from ddb_lake.infra.deployment import Deployment, Location, TableDeployment
from ddb_lake.infra.packaging import CodeSource, build_package
from ddb_lake.infra.stacks.base import new_stack

_NOT_PLAIN = ("replica",)
"""Stacks that require another stack of the same app."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of the templates. `default`: None if the user must give a value."""

    id: str
    about: str
    default: str | None = None
    pattern: str | None = None
    type: str = "String"


_HAS_SORT_KEY = "HasSortKey"
_NO_SORT_KEY = "(none)"
_BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
_PREFIX = r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$"
_ACCOUNT = r"^[0-9]{12}$"
PARAMETERS = (
    Parameter("DeploymentName", "First part of every name given", "ddb-lake", r"^[a-z]([a-z0-9]|-(?!-|$)){1,20}$"),
    Parameter("TableName", "The DynamoDB table", "example-ddb-table", r"^[A-Za-z0-9_.-]{3,128}$"),
    Parameter("PartitionKeyName", "Name of the table's partition key", "id"),
    Parameter("PartitionKeyType", "Type of the partition key: S, N or B", "S", "^[SNB]$"),
    Parameter("SortKeyName", "Name of the table's sort key; (none) without one", _NO_SORT_KEY),
    Parameter("SortKeyType", "Type of the sort key: S, N or B", "S", "^[SNB]$"),
    Parameter("ColumnNames", "Aurora's columns, comma-separated: top-level attributes, the key among them", "id"),
    Parameter("KinesisShards", "Shards of the Kinesis stream", "10", type="Number"),
    Parameter("LandingBucket", "Bucket that changes and exports land in", None, _BUCKET),
    Parameter("LandingPrefix", "Prefix of the changes, without a final slash", "changes", _PREFIX),
    Parameter("ExportPrefix", "Prefix of the exports, without a final slash", "exports", _PREFIX),
    Parameter("WarehouseBucket", "Bucket of the lake's tables", None, _BUCKET),
    Parameter("WarehousePrefix", "Prefix of the lake's tables, without a final slash", "lake", _PREFIX),
    Parameter("CatalogNamespace", "Glue database of the lake's tables", "ddb_lake", r"^[a-z0-9_]{1,255}$"),
    Parameter("ProducerAccount", "Account of the source table", None, _ACCOUNT),
    Parameter("ConsumerAccount", "Account of the lake", None, _ACCOUNT),
    Parameter("SourceRole", "Name of the role through which the lake's account exports", "ddb-lake-source"),
    Parameter(
        "ExternalId", "External id that assuming a role of another account needs", None, r"^[\w+=,.@:/-]{2,1224}$"
    ),
    Parameter("ArtifactBucket", "Bucket in this Region that the packages were copied to", None, _BUCKET),
    Parameter("ArtifactPrefix", "Prefix of the packages in it, with its final slash or empty", ""),
)


def write_templates(deployment: Deployment, folder: Path) -> list[Path]:
    """Write a template for each stack, the packages, and a README of the parameters. Returns the paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        written = [
            _write_one(name, deployment, folder, Path(scratch, name))
            for name in deployment.settings.stack_names
            if name not in _NOT_PLAIN
        ]
    readme = folder / "README.md"
    certificates = deployment.settings.aurora.certificates
    parameters = {path: _parameters_of(path) for path in written}
    readme.write_text(_readme(parameters, certificates.name if certificates else None), encoding="utf-8")
    return sorted([*written, readme, *folder.glob("*.zip")])


def _write_one(name: str, deployment: Deployment, folder: Path, scratch: Path) -> Path:
    _, about, build = TOPOLOGIES[name]
    # Parameters that are not used go afterwards, and cfn-lint sees what is left: CDK's own rules would come too early.
    rules = {"@aws-cdk/core:validateAgainstDefaultRules": False}
    app = cdk.App(outdir=str(scratch), context={**context(), **rules}, analytics_reporting=False)
    stack = new_stack(app, name, f"ddb-lake: {about}", None, cdk.BootstraplessSynthesizer())
    given = {p.id: _parameter(stack, p) for p in PARAMETERS}
    if name in WITH_BUCKET_KEYS:
        build = partial(build, key_arns=bucket_keys(stack, deployment))
    build(stack, _parameterised(deployment, given), _code(folder, deployment, given))
    _let_keys_vary(stack)
    template = _without_unused(app.synth().get_stack_by_name(name).template)
    path = folder / f"{name}.template.json"
    path.write_text(json.dumps(template, indent=1) + "\n", encoding="utf-8")
    return path


def _parameter(stack: cdk.Stack, wanted: Parameter) -> cdk.CfnParameter:
    pattern = wanted.pattern if wanted.type == "String" else None
    return cdk.CfnParameter(
        stack, wanted.id, type=wanted.type, description=wanted.about, default=wanted.default, allowed_pattern=pattern
    )


def _parameterised(deployment: Deployment, given: dict[str, cdk.CfnParameter]) -> Deployment:
    """A deployment of one table whose names are parameters."""

    def text(id: str) -> str:
        return str(given[id].value_as_string)

    landing = text("LandingBucket")
    feed = deployment.tables[0].feed.model_copy(
        update={"adopt": False, "shards": given["KinesisShards"].value_as_number}
    )
    table = TableDeployment(
        id="Table",
        name=text("TableName"),
        key=((text("PartitionKeyName"), "S"),),
        landing=Location(landing, f"{text('LandingPrefix')}/"),
        errors=Location(landing, f"{text('LandingPrefix')}-failed/"),
        exports=Location(landing, f"{text('ExportPrefix')}/"),
        feed=feed,
        source_role=text("SourceRole"),
        external_id=text("ExternalId"),
        key_names=cdk.Token.as_string(
            cdk.Fn.condition_if(
                _HAS_SORT_KEY, f"{text('PartitionKeyName')},{text('SortKeyName')}", text("PartitionKeyName")
            )
        ),
        lake_name=text("TableName"),
        columns_json=f'{{"{text("TableName")}":["{_quoted(text("ColumnNames"))}"]}}',
    )
    settings = deployment.settings.model_copy(
        update={
            "replica_region": None,
            "catalog": deployment.settings.catalog.model_copy(update={"lake_formation": False}),
        }
    )
    return dataclasses.replace(
        deployment,
        settings=settings,
        name=text("DeploymentName"),
        producer_account=text("ProducerAccount"),
        consumer_account=text("ConsumerAccount"),
        tables=(table,),
        warehouse=Location(text("WarehouseBucket"), f"{text('WarehousePrefix')}/"),
        namespace=text("CatalogNamespace"),
        task_role=f"{text('DeploymentName')}-task",
        follow_role=f"{text('DeploymentName')}-follow",
        hash_key=None,
        queue_urls=(),
        databases=(),
    )


def _quoted(names: str) -> str:
    """Comma-separated names as the members of a JSON array, without the first and the last quote."""
    return str(cdk.Fn.join('","', cdk.Fn.split(",", names)))


def _code(folder: Path, deployment: Deployment, given: dict[str, cdk.CfnParameter]) -> CodeSource:
    def code(stack: cdk.Stack, handler: str) -> lambda_.Code:
        package = build_package(
            handler, folder, certificates_for(handler, deployment), user_code_for(handler, deployment)
        )
        known = stack.node.try_find_child("Artifacts")
        bucket = known or s3.Bucket.from_bucket_name(stack, "Artifacts", given["ArtifactBucket"].value_as_string)
        return lambda_.Code.from_bucket(bucket, f"{given['ArtifactPrefix'].value_as_string}{package.name}")

    return code


def _let_keys_vary(stack: cdk.Stack) -> None:
    """Override a table's key with parameters: one or two attributes of any type. CDK's table accepts only constants."""
    tables = [
        node
        for node in stack.node.find_all()
        if isinstance(node, cdk.CfnResource) and node.cfn_resource_type == "AWS::DynamoDB::Table"
    ]
    cdk.CfnCondition(
        stack,
        _HAS_SORT_KEY,
        expression=cdk.Fn.condition_not(cdk.Fn.condition_equals(cdk.Fn.ref("SortKeyName"), _NO_SORT_KEY)),
    )
    for table in tables:
        table.add_property_override("KeySchema", _one_or_two("KeyType", {"P": "HASH", "S": "RANGE"}))
        types = {"P": {"Ref": "PartitionKeyType"}, "S": {"Ref": "SortKeyType"}}
        table.add_property_override("AttributeDefinitions", _one_or_two("AttributeType", types))


def _one_or_two(member: str, values: dict[str, Any]) -> dict[str, Any]:
    first = {"AttributeName": {"Ref": "PartitionKeyName"}, member: values["P"]}
    second = {"AttributeName": {"Ref": "SortKeyName"}, member: values["S"]}
    return {"Fn::If": [_HAS_SORT_KEY, [first, second], [first]]}


def _without_unused(template: dict[str, Any]) -> dict[str, Any]:
    """The template without unused parameters and conditions."""
    if f'["{_HAS_SORT_KEY}"' not in json.dumps(template["Resources"]):
        template = {name: part for name, part in template.items() if name != "Conditions"}
    body = json.dumps({name: part for name, part in template.items() if name != "Parameters"})
    used = {id: p for id, p in template["Parameters"].items() if f'{{"Ref": "{id}"}}' in body or f"${{{id}}}" in body}
    return {**template, "Parameters": used}


def _parameters_of(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["Parameters"]
    return found


def _readme(templates: dict[Path, dict[str, dict[str, Any]]], certificates: str | None) -> str:
    lines = [
        "# CloudFormation templates of ddb-lake",
        "",
        "Copy the `.zip` files to a bucket in the Region of the stack (`ArtifactBucket`, `ArtifactPrefix`), then deploy:",
        "",
        "```",
        "aws cloudformation deploy --template-file NAME.template.json --stack-name ddb-lake-NAME \\",
        "  --capabilities CAPABILITY_NAMED_IAM --s3-bucket ARTIFACT_BUCKET --parameter-overrides LandingBucket=…",
        "```",
    ]
    if certificates:
        lines += ["", f"The package of `load_aurora` trusts the certificates of `{certificates}`, and no others."]
    for path, parameters in templates.items():
        lines += ["", f"## {path.name}", "", "| parameter | default | meaning |", "| --- | --- | --- |"]
        for id, parameter in parameters.items():
            default = f"`{parameter['Default']}`" if parameter.get("Default") not in (None, "") else "none"
            shown = default if "Default" in parameter else "must be given"
            lines.append(f"| `{id}` | {shown} | {parameter.get('Description', '')} |")
    return "\n".join(lines) + "\n"
