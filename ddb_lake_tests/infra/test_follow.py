"""The service of `ddb-lake follow`: its alarms and health check against the process, its image, and lakes that read streams."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ddb_lake
from ddb_lake.cli.commands.follow import follow
from ddb_lake.cli.commands.iam import IamOptions, lake_estate
from ddb_lake.config import load_settings, parse_settings
from ddb_lake.core.operations.policies import actions as policy_actions
from ddb_lake.core.operations.policies import statements
from ddb_lake.errors import ConfigError
from ddb_lake.infra.config import InfraSettings, load_infra
from ddb_lake.infra.deployment import resolve_deployment
from ddb_lake.pipeline.metrics import LakeMetrics
from ddb_lake_tests.support.synthesis import EXAMPLE
from ddb_lake_tests.support.templates import Template, actions, as_list, read_templates, text

Templates = dict[str, Template]
INFRA = Path(ddb_lake.__file__).parent / "infra"
QUEUE = "https://sqs.eu-west-1.amazonaws.com/111122223333/arrivals"
STREAM = "arn:aws:kinesis:eu-west-1:111122223333:stream/shared"
DATABASE_SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:database-AbCdEf"
HASH_KEY = "arn:aws:kms:eu-west-1:111122223333:key/00000000-1111-2222-3333-444444444444"


def container(template: Template) -> dict[str, Any]:
    (found,) = template.only("AWS::ECS::TaskDefinition")["ContainerDefinitions"]
    return found


def test_alarms_name_metrics_that_the_follower_prints(templates: Templates) -> None:
    """Guards the alarms: one on a metric or dimension that does not exist never fires, or always."""
    lake = load_settings(load_infra(EXAMPLE).lake)
    metrics = LakeMetrics()
    metrics.set_followed([table.name for table in lake.tables], [])
    for table in lake.tables:
        metrics.set_lag(table, 1)
    known = {
        (directive["Namespace"], metric["Name"], frozenset((name, document[name]) for name in dimensions))
        for document in metrics.embedded(0)
        for directive in document["_aws"]["CloudWatchMetrics"]
        for dimensions in directive["Dimensions"]
        for metric in directive["Metrics"]
    }
    alarms = templates["follow"].resources("AWS::CloudWatch::Alarm").values()
    assert len(alarms) == 3 * len(lake.tables)
    for alarm in alarms:
        dimensions = frozenset((one["Name"], one["Value"]) for one in alarm["Dimensions"])
        name = alarm["MetricName"]
        if name == "ddb_lake_open_gaps":  # of the tables' state, which has the dimension of what is followed
            name = "ddb_lake_followed"
        assert (alarm["Namespace"], name, dimensions) in known


def test_missing_metrics_of_a_follower_raise_the_alarm_of_silence_alone(templates: Templates) -> None:
    found = {
        alarm["MetricName"]: (alarm["ComparisonOperator"], alarm["Threshold"], alarm["TreatMissingData"])
        for alarm in templates["follow"].resources("AWS::CloudWatch::Alarm").values()
    }
    assert found == {
        "ddb_lake_lag_seconds": ("GreaterThanThreshold", 60, "notBreaching"),
        "ddb_lake_followed": ("LessThanThreshold", 1, "breaching"),
        "ddb_lake_open_gaps": ("GreaterThanThreshold", 0, "notBreaching"),
    }


@pytest.mark.parametrize(("age_s", "status"), [(0.5, 0), (3599.0, 0), (3601.0, 1), (None, 1)])
def test_health_check_fails_for_a_loop_that_hangs_and_for_a_process_without_one(
    age_s: float | None, status: int, templates: Templates
) -> None:
    """Guards the restart of a follower whose metrics are served while its loop hangs."""
    kind, program, flag, code = container(templates["follow"])["HealthCheck"]["Command"]
    assert (kind, program, flag) == ("CMD", "python", "-c")
    metrics = LakeMetrics()
    metrics.set_followed(["orders"], [])
    if age_s is not None:
        metrics.set_step_age(lambda: age_s)
    port = metrics.serve("127.0.0.1:0")
    assert "127.0.0.1:9464/" in code
    code = code.replace("127.0.0.1:9464", f"127.0.0.1:{port}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr


def test_container_runs_the_command_as_the_images_user_and_may_end_its_commit(templates: Templates) -> None:
    found, dockerfile = container(templates["follow"]), (INFRA / "Dockerfile").read_text()
    context = follow.make_context("follow", found["Command"][1:], resilient_parsing=False)
    assert context.params["tables"] == () and not context.params["once"]
    served = found["Command"][found["Command"].index("--metrics") + 1]
    assert served in found["HealthCheck"]["Command"][-1] and "--emf" in found["Command"]
    config = found["Command"][found["Command"].index("--config") + 1]
    assert re.search(rf"^COPY \S+ {config}$", dockerfile, re.M)
    assert re.search(rf"^USER {found['User']}$", dockerfile, re.M)
    assert found["ReadonlyRootFilesystem"] is True
    (mounted,) = found["MountPoints"]
    assert f'VOLUME ["{mounted["ContainerPath"]}"]' in dockerfile
    assert found["StopTimeout"] == 120  # the most that Fargate allows


def test_image_has_a_python_and_an_extra_that_the_package_has() -> None:
    dockerfile = (INFRA / "Dockerfile").read_text()
    project = tomllib.loads((INFRA.parents[1] / "pyproject.toml").read_text())["project"]
    (extra,) = re.findall(r"/source\[(\w+)\]", dockerfile)
    assert extra in project["optional-dependencies"]
    versions = {
        f"Programming Language :: Python :: {found}" for found in re.findall(r"FROM python:([\d.]+)", dockerfile)
    }
    assert versions and versions <= set(project["classifiers"])


def test_followers_role_is_what_the_command_line_prints(templates: Templates) -> None:
    settings = load_settings(load_infra(EXAMPLE).lake)
    options = IamOptions("444455556666", "eu-west-1", kms_key_arn="arn:aws:kms:eu-west-1:444455556666:key/0")
    printed = statements("follower", lake_estate(settings, options))
    attached = templates["follow"].policy_of("TaskPolicy")
    assert actions(attached) == policy_actions(printed)
    wanted = {r for s in printed for r in s.resources if r.startswith("arn:aws:s3")}
    found = {text(r) for s in attached for r in as_list(s["Resource"])}
    assert {r.replace("${AWS::Partition}", "aws") for r in found if ":s3:::" in r} == wanted


def test_layers_of_images_pass_the_endpoint_of_s3(templates: Templates) -> None:
    """Guards the start of tasks: ECR redirects to a bucket of AWS's, which the endpoint's other statement refuses."""
    policies = [e["PolicyDocument"] for e in templates["follow"].resources("AWS::EC2::VPCEndpoint").values()]
    (layers,) = [s for policy in policies for s in policy["Statement"] if s["Sid"] == "ImageLayers"]
    assert layers["Action"] == "s3:GetObject"
    assert text(layers["Resource"]).endswith(":s3:::prod-${AWS::Region}-starport-layer-bucket/*")


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The template for a lake that reads streams, has a queue, and hashes with a secret's key; without cdk-nag."""
    from ddb_lake.infra.app import build_app  # starts Node, which only this test needs

    export = {"bucket": "landing", "prefix": "exports"}
    tables = [
        {"name": "orders", "key": ["id"], "export": export, "changes": {"streams": True, "notifications": QUEUE}},
        {
            "name": "customers",
            "key": ["id"],
            "export": export,
            "changes": {"kinesis": STREAM, "fan_out": "lake"},
            "columns": {"email": {"hash": True}},
            "aurora": {"host": "h", "database": "d", "user": "replicator", "iam_auth": True},
        },
    ]
    tables[0]["aurora"] = {"host": "h", "database": "d", "user": "u", "secret_arn": DATABASE_SECRET}
    settings = InfraSettings.model_validate(
        {
            "lake": "lake.yaml",
            "producer_account": "111122223333",
            "consumer_account": "111122223333",
            "stacks": ["follow"],
            "adopt": {"hash_kms_arn": HASH_KEY},
        }
    )
    document = {"warehouse": "s3://lake/w", "hash_key": {"secret": "lake/key"}, "tables": tables}
    deployment = resolve_deployment(settings, parse_settings(document, "test"))
    folder = tmp_path_factory.mktemp("streaming")
    build_app(deployment, folder, explicit_environment=False, checks=False).synth()
    return read_templates(folder, "ddb-lake-")["follow"]


def test_streams_are_read_and_landed_and_the_key_of_hashes_is_read(streaming: Template) -> None:
    found = {s["Sid"]: s for s in streaming.policy_of("TaskPolicy")}

    def resources(sid: str) -> set[str]:
        return {text(r).replace("${AWS::Partition}", "aws") for r in as_list(found[sid]["Resource"])}

    assert resources("ReadStream") == {"arn:aws:dynamodb:${AWS::Region}:111122223333:table/orders/stream/*"}
    assert resources("ReadKinesis") == {STREAM}
    assert resources("Subscribe") == {f"{STREAM}/consumer/lake:*"}
    assert resources("ReceiveArrivals") == {"arn:aws:sqs:eu-west-1:111122223333:arrivals"}
    assert resources("ReadHashKey") == {
        "arn:aws:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:lake/key-??????"
    }
    assert resources("DecryptHashKey") == {HASH_KEY}
    assert resources("ReadDatabaseLogin") == {DATABASE_SECRET}
    assert resources("LogIntoDatabase") == {"arn:aws:rds-db:${AWS::Region}:${AWS::AccountId}:dbuser:*/replicator"}
    written = {
        text(r) for s in found.values() if "s3:PutObject" in as_list(s["Action"]) for r in as_list(s["Resource"])
    }
    for table in ("orders", "customers"):
        assert f"arn:${{AWS::Partition}}:s3:::lake/w/landing/{table}/*" in written


def test_each_service_that_is_called_has_an_endpoint_and_that_of_streams_is_named(streaming: Template) -> None:
    """Guards private subnets: a service without an endpoint is not reached, and the name of DynamoDB Streams is not private."""
    endpoints = streaming.resources("AWS::EC2::VPCEndpoint")
    services = {text(e["ServiceName"]).partition("${AWS::Region}.")[2]: e for e in endpoints.values()}
    expected = "s3 dynamodb ecr.api ecr.dkr logs glue dynamodb-streams kinesis-streams sqs secretsmanager"
    assert set(services) == set(expected.split())
    assert [name for name, e in services.items() if e.get("PrivateDnsEnabled") is False] == ["dynamodb-streams"]
    environment = {one["Name"]: one["Value"] for one in container(streaming)["Environment"]}
    (id,) = [id for id, e in endpoints.items() if e is services["dynamodb-streams"]]
    assert id in str(environment["AWS_ENDPOINT_URL_DYNAMODB_STREAMS"])


def test_alarms_of_lag_have_the_source_that_each_table_is_read_from(streaming: Template) -> None:
    lags = [
        a for a in streaming.resources("AWS::CloudWatch::Alarm").values() if a["MetricName"].endswith("lag_seconds")
    ]
    found = {tuple(d["Value"] for d in sorted(a["Dimensions"], key=lambda one: str(one["Name"]))) for a in lags}
    assert found == {("streams", "orders"), ("kinesis", "customers")}


def invalid(**changes: Any) -> Callable[[], Any]:
    document = {"lake": "l", "producer_account": "111122223333", "consumer_account": "111122223333", **changes}
    return lambda: InfraSettings.model_validate(document)


def test_memory_that_fargate_does_not_take_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 to 8 GiB"):
        invalid(follow={"memory_mebibytes": 1024})()
    with pytest.raises(ValueError, match="steps of 1024"):
        invalid(follow={"memory_mebibytes": 2500})()


def test_key_of_hashes_in_an_environment_variable_is_an_error() -> None:
    settings = invalid(stacks=["follow"])()
    table = {
        "name": "orders",
        "key": ["id"],
        "export": {"bucket": "landing", "prefix": "exports"},
        "changes": {"streams": True},
        "columns": {"email": {"hash": True}},
    }
    lake = parse_settings({"warehouse": "s3://lake/w", "hash_key": {"env": "KEY"}, "tables": [table]}, "test")
    with pytest.raises(ConfigError, match="environment variable KEY"):
        resolve_deployment(settings, lake)


def test_password_of_a_database_in_an_environment_variable_is_an_error() -> None:
    aurora = {"host": "h", "database": "d", "user": "u", "password_env": "PASSWORD"}
    table = {"name": "orders", "key": ["id"], "changes": {"streams": True}, "aurora": aurora}
    table["export"] = {"bucket": "landing", "prefix": "exports"}
    lake = parse_settings({"warehouse": "s3://lake/w", "tables": [table]}, "test")
    with pytest.raises(ConfigError, match=r"`aurora\.password_env` is PASSWORD"):
        resolve_deployment(invalid(stacks=["follow"])(), lake)


def test_lake_without_delivered_objects_is_an_error_for_stacks_that_deliver() -> None:
    table = {"name": "orders", "key": ["id"], "export": {"bucket": "l", "prefix": "e"}, "changes": {"streams": True}}
    lake = parse_settings({"warehouse": "s3://lake/w", "tables": [table]}, "test")
    with pytest.raises(ConfigError, match=r"changes\.uri"):
        resolve_deployment(invalid(stacks=["follow", "same-account"])(), lake)


def test_role_of_the_tables_account_is_assumed_by_both_roles_of_the_lake(templates: Templates) -> None:
    (trust,) = templates["producer"].one("AWS::IAM::Role", "Source")["AssumeRolePolicyDocument"]["Statement"]
    found = {text(arn).rpartition("/")[2] for arn in trust["Condition"]["ArnEquals"]["aws:PrincipalArn"]}
    roles = (
        templates["orchestration"].one("AWS::IAM::Role", "Task"),
        templates["follow"].one("AWS::IAM::Role", "Task"),
    )
    assert found == {role["RoleName"] for role in roles} == {"ddb-lake-task", "ddb-lake-follow"}
