"""Policy documents: shape, least privilege, and roles that see only what is theirs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.operations.policies import (
    UNSCOPED_ACTIONS,
    Estate,
    HashKey,
    Place,
    Searched,
    Source,
    actions,
    describe,
    document,
    role_names,
    statements,
)
from ddb_lake.errors import UsageError

KEY = "arn:aws:kms:eu-west-1:111122223333:key/0"
TABLE = "arn:aws:dynamodb:eu-west-1:111122223333:table/orders"
ROLE = "arn:aws:iam::111122223333:role/ddb-lake-source"

keys = st.sampled_from([None, KEY])
places = st.builds(
    Place, st.sampled_from(["arn:aws:s3:::one", "arn:aws:s3:::two"]), st.sampled_from(["", "a/", "b/c/"]), keys
)
sources = st.builds(Source, st.just(TABLE), st.sampled_from([None, ROLE]), keys, st.none() | places, st.booleans())
estates = st.builds(
    Estate,
    st.just("eu-west-1"),
    st.lists(sources, max_size=3).map(tuple),
    st.lists(places, max_size=3).map(tuple),
    st.none() | places,
    st.sampled_from([(), ("arn:aws:glue:::catalog", "arn:aws:glue:::database/x", "arn:aws:glue:::table/x/*")]),
    st.sampled_from([(), ("arn:aws:sqs:::q",)]),
    keys,
    st.sampled_from([(), (TABLE,)]),
    hash_key=st.sampled_from([None, HashKey(("arn:aws:ssm:::parameter/k",), "ssm", KEY)]),
    searched=st.lists(st.builds(Searched, st.just(f"{TABLE}-*"), st.sampled_from([None, ROLE])), max_size=2).map(tuple),
)


@given(st.sampled_from(role_names()), estates)
def test_every_policy_is_a_document_that_iam_takes(role: str, estate: Estate) -> None:
    found = document(statements(role, estate))
    assert json.loads(json.dumps(found)) == found
    sids = [statement["Sid"] for statement in found["Statement"]]
    assert len(set(sids)) == len(sids)
    for statement in found["Statement"]:
        assert statement["Effect"] == "Allow"
        assert statement["Sid"].isalnum()
        assert statement["Action"] and statement["Resource"]
        assert not [action for action in statement["Action"] if "*" in action]


@given(st.sampled_from(role_names()), estates)
def test_bare_resource_stands_only_where_aws_knows_no_better(role: str, estate: Estate) -> None:
    for statement in statements(role, estate):
        if "*" in statement.resources:
            assert set(statement.actions) <= set(UNSCOPED_ACTIONS)


@given(estates)
def test_task_may_do_what_its_roles_may_and_become_the_sources(estate: Estate) -> None:
    whole = actions(statements("dagster-task", estate))
    for role in ("exporter", "applier", "verifier", "repairer", "notified", "doctor", "liveness"):
        assert actions(statements(role, estate)) <= whole
    behind = {source.role_arn for source in estate.sources if source.role_arn}
    assumed = [s for s in statements("dagster-task", estate) if "sts:AssumeRole" in s.actions]
    assert {arn for s in assumed for arn in s.resources} == behind


def test_table_behind_a_role_is_in_that_roles_policy_and_not_in_the_tasks() -> None:
    estate = Estate("eu-west-1", (Source(TABLE, ROLE, KEY, Place("arn:aws:s3:::landing", "exports/", KEY)),))
    assert not {a for a in actions(statements("dagster-task", estate)) if a.startswith("dynamodb:Export")}
    source = statements("source", estate)
    (started,) = [s for s in source if "dynamodb:ExportTableToPointInTime" in s.actions]
    assert started.resources == (TABLE,)
    (written,) = [s for s in source if "s3:PutObject" in s.actions]
    assert written.resources == ("arn:aws:s3:::landing/exports/AWSDynamoDB/*",)


def test_keys_are_used_through_the_service_only() -> None:
    estate = Estate("eu-west-1", (Source(TABLE, None, KEY),), (Place("arn:aws:s3:::landing", "a/", KEY),))
    for role in ("exporter", "applier", "stream-reader", "verifier"):
        for statement in statements(role, estate):
            if any(action.startswith("kms:") for action in statement.actions):
                service = statement.conditions["StringEquals"]["kms:ViaService"]
                assert service in ("s3.eu-west-1.amazonaws.com", "dynamodb.eu-west-1.amazonaws.com")


def test_reader_writes_nothing() -> None:
    estate = Estate("eu-west-1", warehouse=Place("arn:aws:s3:::lake", "", KEY), glue=("arn:aws:glue:::catalog",))
    assert actions(statements("reader", estate)) == {"s3:GetObject", "s3:ListBucket", "kms:Decrypt", "glue:GetTable"}


def test_task_reads_streams_only_if_a_table_has_them() -> None:
    for streams in (True, False):
        estate = Estate("eu-west-1", (Source(TABLE, streams=streams),))
        assert ("dynamodb:GetRecords" in actions(statements("dagster-task", estate))) is streams


def test_enhanced_fan_out_is_granted_for_its_consumer_to_those_that_follow_alone() -> None:
    stream = "arn:aws:kinesis:eu-west-1:111122223333:stream/changes"
    for role_arn, role in ((None, "follower"), (ROLE, "source")):
        source = Source(TABLE, role_arn, streams=True, kinesis_arn=stream, fan_out="lake")
        estate = Estate("eu-west-1", (source,))
        (subscribed,) = [s for s in statements(role, estate) if "kinesis:SubscribeToShard" in s.actions]
        assert subscribed.resources == (f"{stream}/consumer/lake:*",)
        (registered,) = [s for s in statements(role, estate) if "kinesis:RegisterStreamConsumer" in s.actions]
        assert registered.resources == (stream,)
        other = Estate("eu-west-1", (Source(TABLE, role_arn, streams=True, kinesis_arn=stream),))
        assert not {"kinesis:SubscribeToShard", "kinesis:RegisterStreamConsumer"} & actions(statements(role, other))
        granted = {name for name in role_names() if "kinesis:SubscribeToShard" in actions(statements(name, estate))}
        assert granted == {role, "source"}


def test_doctor_may_describe_the_kinesis_streams_that_it_examines() -> None:
    stream = "arn:aws:kinesis:eu-west-1:111122223333:stream/changes"
    for role_arn, role in ((None, "doctor"), (ROLE, "source")):
        estate = Estate("eu-west-1", (Source(TABLE, role_arn, streams=True, kinesis_arn=stream),))
        granted = {a for s in statements(role, estate) if s.resources == (stream,) for a in s.actions}
        assert granted >= {"kinesis:DescribeStreamSummary", "kinesis:ListShards"}
    assert "kinesis:ListShards" not in actions(
        statements("doctor", Estate("eu-west-1", (Source(TABLE, streams=True),)))
    )


def test_unknown_role_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="dagster-task, source, exporter"):
        statements("owner", Estate("eu-west-1"))
    assert all(describe(role) for role in role_names())
