"""Infrastructure against the code that runs on it: prefixes, environments, packages."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from ddb_lake.core.layout.firehose_paths import DEFAULT_LAYOUT, arrival_hour, expand_prefix, firehose_key, static_part
from ddb_lake.core.operations.policies import actions as policy_actions
from ddb_lake.core.operations.policies import statements
from ddb_lake.errors import ConfigError
from ddb_lake.infra.deployment import Deployment
from ddb_lake.lambdas import forward, load_aurora, replicate, transform, validate
from ddb_lake.lambdas.environment import Variable, read_variables
from ddb_lake_tests.support.athena_partitions import projected_location
from ddb_lake_tests.support.aws_calls import ACCOUNT
from ddb_lake_tests.support.templates import Template, actions, environments, text

AT = datetime(2026, 3, 29, 1, 59, 59, tzinfo=UTC)
UNIQUE = "0d4f6a2c-1b2e-4a53-9a77-0123456789ab"
DELIVERING = ("same-account", "producer", "replicate-target", "streams-to-aurora")

DEFAULTED = {
    "DDB_LAKE_PARTITION_KEYS": "the delivery streams partition by date only",
    "DDB_LAKE_TARGET_REGION": "the table is in the function's Region",
    "DDB_LAKE_AURORA_TLS": "TLS stays on",
    "DDB_LAKE_AURORA_PASSWORD": "IAM authentication is used",
    "DDB_LAKE_AURORA_SECRET_ARN": "IAM authentication is used",
}
"""What handlers read and these stacks leave at its default, with the reason."""


@pytest.mark.parametrize("name", DELIVERING)
def test_objects_that_firehose_delivers_lie_where_the_lake_looks_for_them(
    name: str, templates: dict[str, Template], deployment: Deployment
) -> None:
    found = templates[name].only("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    destination = found.get("S3BackupConfiguration", found)  # beside files for Aurora, records land as they came in
    folder = expand_prefix(destination["Prefix"], AT)
    key = firehose_key(folder, "stream", 1, AT, UNIQUE, ".json.gz")
    assert arrival_hour(key) == AT.replace(minute=0, second=0)
    assert key.startswith(static_part(deployment.tables[0].landing.prefix))
    assert destination["Prefix"].endswith(f"!{{timestamp:{DEFAULT_LAYOUT}}}")


@pytest.mark.parametrize("name", DELIVERING)
def test_objects_that_firehose_delivers_are_in_a_partition_of_the_landing_table(
    name: str, templates: dict[str, Template]
) -> None:
    found = templates[name].only("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    prefix = found.get("S3BackupConfiguration", found)["Prefix"]
    table = templates["catalog"].only("AWS::Glue::Table")["TableInput"]
    location = projected_location(table["Parameters"], AT)
    assert location is not None and location.startswith(table["StorageDescriptor"]["Location"])
    assert location.removeprefix("s3://").partition("/")[2] == expand_prefix(prefix, AT)


@pytest.mark.parametrize("name", DELIVERING)
def test_error_objects_lie_below_the_lakes_error_prefix(
    name: str, templates: dict[str, Template], deployment: Deployment
) -> None:
    destination = templates[name].only("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    folder = expand_prefix(destination["ErrorOutputPrefix"], AT, error_output_type="processing-failed")
    assert folder == f"{deployment.tables[0].errors.prefix}processing-failed/2026/03/29/01/"
    assert arrival_hour(firehose_key(folder, "stream", 1, AT, UNIQUE)) == AT.replace(minute=0, second=0)


def test_files_for_aurora_lie_where_the_loader_takes_them_and_not_in_the_lakes_landing(
    templates: dict[str, Template], deployment: Deployment
) -> None:
    template = templates["streams-to-aurora"]
    destination = template.only("AWS::KinesisFirehose::DeliveryStream")["ExtendedS3DestinationConfiguration"]
    taken = environments(template)["load_aurora"][0]["DDB_LAKE_AURORA_PREFIX"]
    assert expand_prefix(destination["Prefix"], AT).startswith(taken)
    assert not taken.startswith(deployment.tables[0].landing.prefix)


def test_records_too_large_for_firehose_lie_below_the_landing_prefix(
    templates: dict[str, Template], deployment: Deployment
) -> None:
    landing = deployment.tables[0].landing
    for name in ("replicate-target", "streams-to-aurora"):
        uri = environments(templates[name])["forward"][0]["DDB_LAKE_OVERSIZE_URI"]
        assert uri.startswith(f"s3://{landing.bucket}/{landing.prefix}")


def test_functions_that_call_s3_know_the_owner_of_the_bucket(templates: dict[str, Template]) -> None:
    for name, handler in (
        ("replicate-target", "forward"),
        ("streams-to-aurora", "forward"),
        ("streams-to-aurora", "load_aurora"),
    ):
        for environment in environments(templates[name])[handler]:
            assert environment["DDB_LAKE_BUCKET_OWNER"] == "${AWS::AccountId}", (name, handler)


HANDLERS: dict[str, Callable[[Mapping[str, str]], Any]] = {
    "forward": forward.Settings.from_environment,
    "load_aurora": load_aurora.Settings.from_environment,
    "replicate": replicate.Settings.from_environment,
    "transform": transform.Transform.from_environment,
    "validate": validate.Validation.from_environment,
}
"""What each handler makes of its environment."""


def variables(handler: str) -> dict[str, Variable]:
    """What a handler declares to read, by name."""
    module = importlib.import_module(f"ddb_lake.lambdas.{handler}")
    return {variable.name: variable for variable in module.VARIABLES}


@pytest.fixture(scope="session")
def deployed(templates: dict[str, Template], adopting: dict[str, Template]) -> list[tuple[str, dict[str, str]]]:
    """Handler and environment of each function of both deployments."""
    stacks = [*templates.values(), *adopting.values()]
    return [(h, in_account(one)) for stack in stacks for h, found in environments(stack).items() for one in found]


def in_account(environment: dict[str, str]) -> dict[str, str]:
    """An environment as CloudFormation sets it in an account."""
    return {name: value.replace("${AWS::AccountId}", ACCOUNT) for name, value in environment.items()}


def test_functions_have_only_variables_that_their_handlers_read(deployed: list[tuple[str, dict[str, str]]]) -> None:
    assert {handler for handler, _ in deployed} == set(HANDLERS)
    for handler, environment in deployed:
        assert environment.keys() <= variables(handler).keys(), handler


def test_functions_have_every_variable_that_their_handlers_require(
    deployed: list[tuple[str, dict[str, str]]],
) -> None:
    for handler, environment in deployed:
        required = {name for name, variable in variables(handler).items() if variable.required}
        assert {name for name in required if not environment.get(name)} == set(), handler


def test_what_handlers_read_and_no_function_has_is_listed(deployed: list[tuple[str, dict[str, str]]]) -> None:
    having: dict[str, set[str]] = {}
    for handler, environment in deployed:
        having.setdefault(handler, set()).update(environment)
    assert {name for handler in HANDLERS for name in variables(handler).keys() - having[handler]} == set(DEFAULTED)


def test_handlers_take_the_environments_of_their_functions(deployed: list[tuple[str, dict[str, str]]]) -> None:
    for handler, environment in deployed:
        assert HANDLERS[handler](environment)


@pytest.mark.parametrize("handler", HANDLERS)
def test_handler_reads_what_it_declares_and_says_what_it_requires(
    handler: str, deployed: list[tuple[str, dict[str, str]]]
) -> None:
    environment = RecordedEnvironment(next(one for name, one in deployed if name == handler))
    HANDLERS[handler](environment)
    assert environment.read == variables(handler).keys()
    for name in [name for name, variable in variables(handler).items() if variable.required]:
        with pytest.raises(ConfigError, match=name):
            HANDLERS[handler]({known: value for known, value in environment.items() if known != name})


@pytest.mark.parametrize("handler", HANDLERS)
def test_handler_uses_what_it_declares(
    handler: str, deployed: list[tuple[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[RecordedEnvironment] = []

    def recording(declared: Sequence[Variable], environment: Mapping[str, str]) -> RecordedEnvironment:
        kept.append(RecordedEnvironment(read_variables(declared, environment)))
        return kept[-1]

    monkeypatch.setattr(importlib.import_module(f"ddb_lake.lambdas.{handler}"), "read_variables", recording)
    HANDLERS[handler](next(one for name, one in deployed if name == handler))
    assert [found.read for found in kept] == [variables(handler).keys()]


@pytest.mark.parametrize("handler", HANDLERS)
def test_handler_in_its_function_reads_no_variable_of_ours_besides(
    handler: str, deployed: list[tuple[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
    module = importlib.import_module(f"ddb_lake.lambdas.{handler}")
    environment = next(one for name, one in deployed if name == handler)
    # No role is assumed: the test has no second account.
    watched = RecordedEnvironment(
        {name: value for name, value in environment.items() if name != "DDB_LAKE_TARGET_ROLE_ARN"}
    )
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "os", SimpleNamespace(environ=watched))
    module.handler({"records": [], "Records": []}, None)
    assert {name for name in watched.read if name.startswith("DDB_LAKE")} == variables(handler).keys()


class RecordedEnvironment(dict[str, str]):
    """An environment that knows what was read of it."""

    def __init__(self, values: Mapping[str, str]) -> None:
        super().__init__(values)
        self.read: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.read.add(name)
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.read.add(name)
        return super().__getitem__(name)


def test_example_functions_do_what_the_guides_say(templates: dict[str, Template]) -> None:
    (mode,) = environments(templates["same-account"])["transform"]
    assert transform.Transform.from_environment(mode).mode == "envelope"
    streams = environments(templates["streams-to-aurora"])
    assert validate.Validation.from_environment(streams["validate"][0]).output == "csv"
    settings = load_aurora.Settings.from_environment(in_account(streams["load_aurora"][0]))
    assert (settings.table, settings.key, settings.load) == ("orders", ("customer", "order_id"), "s3")
    assert settings.login.iam_auth


def test_handlers_are_where_the_functions_look_for_them(templates: dict[str, Template]) -> None:
    for template in templates.values():
        for function in template.resources("AWS::Lambda::Function").values():
            module, _, name = function["Handler"].rpartition(".")
            assert callable(getattr(importlib.import_module(module), name))


def test_task_role_is_what_the_command_line_prints(templates: dict[str, Template]) -> None:
    from ddb_lake.cli.commands.iam import IamOptions, lake_estate
    from ddb_lake.config import load_settings
    from ddb_lake.infra.config import load_infra
    from ddb_lake_tests.support.synthesis import EXAMPLE

    settings = load_settings(load_infra(EXAMPLE).lake)
    key = "arn:aws:kms:eu-west-1:444455556666:key/0"
    queue = ("arn:aws:sqs:eu-west-1:444455556666:ddb-lake-arrivals",)
    options = IamOptions("444455556666", "eu-west-1", kms_key_arn=key, queue_arns=queue)
    printed = statements("dagster-task", lake_estate(settings, options))
    attached = templates["orchestration"].policy_of("TaskPolicy")
    assert actions(attached) == policy_actions(printed)
    resources = {
        text(r) for s in attached for r in (s["Resource"] if isinstance(s["Resource"], list) else [s["Resource"]])
    }
    plain = {r for r in resources if r.startswith("arn:${AWS::Partition}:s3")}
    wanted = {r for s in printed for r in s.resources if r.startswith("arn:aws:s3")}
    assert {r.replace("${AWS::Partition}", "aws") for r in plain} == wanted
