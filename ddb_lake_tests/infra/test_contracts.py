"""Infrastructure against the code that runs on it: prefixes, environments, packages."""

from __future__ import annotations

import importlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ddb_lake.core.paths import DEFAULT_LAYOUT, arrival_hour, expand_prefix, firehose_key, hour_prefixes
from ddb_lake.core.policies import actions as policy_actions
from ddb_lake.core.policies import statements
from ddb_lake.infra.plan import Plan
from ddb_lake_tests.infra.reading import Template, actions, text

AT = datetime(2026, 3, 29, 1, 59, 59, tzinfo=UTC)
UNIQUE = "0d4f6a2c-1b2e-4a53-9a77-0123456789ab"
DELIVERING = ("same-account", "producer", "replicate-target", "streams-to-aurora")

DEFAULTED = {
    "DDB_LAKE_PARTITION_KEYS": "the delivery streams partition by date only",
    "DDB_LAKE_SCHEMAS": "set where the deployment has a `json_schema`; the example has none",
    "DDB_LAKE_AURORA_TLS_CA": "set where the deployment has `certificates`; the example has none",
    "DDB_LAKE_TARGET_REGION": "the table is in the function's Region",
    "DDB_LAKE_AURORA_TLS": "TLS stays on",
    "DDB_LAKE_AURORA_PASSWORD": "IAM authentication is used",
    "DDB_LAKE_AURORA_SECRET_ARN": "IAM authentication is used",
}
"""What handlers read and these stacks leave at its default, with the reason."""


@pytest.mark.parametrize("name", DELIVERING)
def test_objects_that_firehose_delivers_lie_where_the_lake_looks_for_them(
    name: str, templates: dict[str, Template], plan: Plan
) -> None:
    found = templates[name].only("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    destination = found.get("S3BackupConfiguration", found)  # beside files for Aurora, records land as they came in
    folder = expand_prefix(destination["Prefix"], AT)
    key = firehose_key(folder, "stream", 1, AT, UNIQUE, ".json.gz")
    assert arrival_hour(key) == AT.replace(minute=0, second=0)
    (looked_for,) = hour_prefixes(plan.tables[0].landing.prefix, AT, AT)
    assert key.startswith(looked_for)
    assert destination["Prefix"].endswith(f"!{{timestamp:{DEFAULT_LAYOUT}}}")


@pytest.mark.parametrize("name", DELIVERING)
def test_error_objects_lie_below_the_lakes_error_prefix(name: str, templates: dict[str, Template], plan: Plan) -> None:
    destination = templates[name].only("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    folder = expand_prefix(destination["ErrorOutputPrefix"], AT, error_output_type="processing-failed")
    assert folder == f"{plan.tables[0].errors.prefix}processing-failed/2026/03/29/01/"
    assert arrival_hour(firehose_key(folder, "stream", 1, AT, UNIQUE)) == AT.replace(minute=0, second=0)


def test_files_for_aurora_lie_where_the_loader_takes_them_and_not_in_the_lakes_landing(
    templates: dict[str, Template], plan: Plan
) -> None:
    template = templates["streams-to-aurora"]
    destination = template.only("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    taken = _functions(template)["load_aurora"]["DDB_LAKE_AURORA_PREFIX"]
    assert expand_prefix(destination["Prefix"], AT).startswith(taken)
    assert not taken.startswith(plan.tables[0].landing.prefix)


def test_records_too_large_for_firehose_lie_below_the_landing_prefix(
    templates: dict[str, Template], plan: Plan
) -> None:
    landing = plan.tables[0].landing
    for name in ("replicate-target", "streams-to-aurora"):
        uri = _functions(templates[name])["forward"]["DDB_LAKE_OVERSIZE_URI"]
        assert uri.startswith(f"s3://{landing.bucket}/{landing.prefix}")


def test_every_function_has_exactly_the_environment_that_its_handler_reads(templates: dict[str, Template]) -> None:
    deployed: dict[str, set[str]] = {}
    for template in templates.values():
        for handler, environment in _functions(template).items():
            deployed.setdefault(handler, set()).update(environment)
    assert set(deployed) == {"transform", "validate", "forward", "load_aurora", "replicate"}
    left_out = set()
    for handler, names in deployed.items():
        read = _documented(handler)
        assert names <= read, f"{handler} does not read {names - read}"
        left_out |= read - names
    assert left_out == set(DEFAULTED), "neither set nor listed as defaulted"


def test_functions_accept_their_environment(templates: dict[str, Template]) -> None:
    from ddb_lake.lambdas.load_aurora import Settings
    from ddb_lake.lambdas.transform import Transform
    from ddb_lake.lambdas.validate import Validation

    assert Transform.from_environment(_functions(templates["same-account"])["transform"]).mode == "envelope"
    streams = _functions(templates["streams-to-aurora"])
    assert Validation.from_environment(streams["validate"]).output == "csv"
    settings = Settings.from_environment(streams["load_aurora"])
    assert (settings.table, settings.key, settings.load) == ("orders", ("customer", "order_id"), "s3")
    assert settings.login.iam_auth


def test_handlers_are_where_the_functions_look_for_them(templates: dict[str, Template]) -> None:
    for template in templates.values():
        for function in template.resources("AWS::Lambda::Function").values():
            module, _, name = function["Handler"].rpartition(".")
            assert callable(getattr(importlib.import_module(module), name))


def test_task_role_is_what_the_command_line_prints(templates: dict[str, Template]) -> None:
    from ddb_lake.cli.iam import lake_estate
    from ddb_lake.config import load_settings
    from ddb_lake.infra.config import load_infra
    from ddb_lake_tests.infra.conftest import EXAMPLE

    settings = load_settings(load_infra(EXAMPLE).lake)
    key = "arn:aws:kms:eu-west-1:444455556666:key/0"
    queue = ("arn:aws:sqs:eu-west-1:444455556666:ddb-lake-arrivals",)
    printed = statements("dagster-task", lake_estate(settings, "444455556666", "eu-west-1", "aws", key, queue))
    attached = templates["orchestration"].policy_of("TaskPolicy")
    assert actions(attached) == policy_actions(printed)
    resources = {
        text(r) for s in attached for r in (s["Resource"] if isinstance(s["Resource"], list) else [s["Resource"]])
    }
    plain = {r for r in resources if r.startswith("arn:${AWS::Partition}:s3")}
    wanted = {r for s in printed for r in s.resources if r.startswith("arn:aws:s3")}
    assert {r.replace("${AWS::Partition}", "aws") for r in plain} == wanted


def _functions(template: Template) -> dict[str, dict[str, str]]:
    """The environment of each function, references written out, by its handler's name."""
    return {
        function["Handler"].split(".")[-2]: {
            name: text(value) for name, value in function.get("Environment", {}).get("Variables", {}).items()
        }
        for function in template.resources("AWS::Lambda::Function").values()
    }


def _documented(handler: str) -> set[str]:
    """The variables that a handler's docstring says it reads, which its own tests hold it to."""
    module: Any = importlib.import_module(f"ddb_lake.lambdas.{handler}")
    documented = re.findall(r"`((?:DDB_LAKE)?_[A-Z_]+)(?:=[a-z]+)?`", module.__doc__)
    prefix = getattr(module, "PREFIX", "DDB_LAKE_")
    found = {name if name.startswith("DDB_LAKE") else prefix.rstrip("_") + name for name in documented}
    code = Path(str(module.__file__)).read_text()
    return {name for name in found if name in code or name.removeprefix(prefix) in code}
