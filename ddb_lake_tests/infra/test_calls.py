"""Each policy of `ddb-lake iam` allows exactly what the code calls: the stages' calls against the documents."""

from __future__ import annotations

import pytest

from ddb_lake.core.operations.policies import Estate, role_names, statements
from ddb_lake_tests.support.deployed_runs import ROLE, Seen, estate_of, keep_calls, kept_calls
from ddb_lake_tests.support.iam_evaluation import Grant, direct, granted, refused, unused
from ddb_lake_tests.support.kms_uses import allowed_uses, uses
from ddb_lake_tests.support.shared_folder import made_once

WORK: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "exporter": (("export", "start increments", "export increments", "repair gaps"), ("applier",)),
    "applier": (("load", "sync", "compact"), ("exporter", "stream-reader")),
    "reader": (("dump", "query", "status"), ()),
    "stream-reader": (("read streams",), ("applier",)),
    "verifier": (("verify",), ("reader",)),
    "repairer": (("repair",), ("applier",)),
    "rebuilder": (("rebuild",), ("applier",)),
    "restorer": (("restore",), ()),
    "notified": (("tick",), ("applier", "exporter")),
    "doctor": (("doctor",), ("reader", "liveness")),
    "liveness": (("signs", "watch", "checks"), ("applier", "verifier")),
    "canary": (("canary",), ("reader",)),
}
"""What each role is for, and the roles that this work needs besides, because it is work on a lake."""

TOGETHER = {"follower": ("follow",)}
"""The roles that are put together of others, and what they are for."""

ELSEWHERE = {
    "source": "the part of other roles in the account of the table",
    "dagster-task": "all roles that run under Dagster",
    "discoverer": "needs a lake with patterns: `cli/commands/test_discover.py` compares its calls with the policy",
}
"""The roles that no stage tries, with the reason."""

NOT_SEEN = {
    "s3:AbortMultipartUpload": "called when an upload fails",
    "s3:PutObjectAcl": "DynamoDB hands an export over to the bucket's owner with it; the emulator has no other owners",
}
"""Actions that no undisturbed run calls, with the reason that they are granted."""

FREE = {
    "sts:GetCallerIdentity": "every identity may call it",
    "glue:GetDatabases": "compaction compares locations of tables in the databases it may list, and in the lake's otherwise",
}
"""Actions that need no policy."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The calls of every stage, which ran once for all test processes."""
    return kept_calls(made_once(tmp_path_factory, "calls", keep_calls))


@pytest.fixture
def estate(ran: Seen) -> Estate:
    """The lake's, with its table in the same account."""
    return estate_of(ran.settings)


def test_every_role_is_at_work() -> None:
    assert set(role_names()) == {*WORK, *TOGETHER, *ELSEWHERE}


def test_every_stage_is_some_roles_work(ran: Seen) -> None:
    together = {stage for stages in TOGETHER.values() for stage in stages}
    assert {stage for stages, _ in WORK.values() for stage in stages} | together == set(ran.ran)


@pytest.mark.parametrize("role", WORK)
def test_role_may_do_what_its_work_calls(role: str, ran: Seen, estate: Estate) -> None:
    stages, others = WORK[role]
    grants = [grant for name in (role, *others) for grant in granted(statements(name, estate))]
    assert {call for call in refused(grants, ran.made(*stages)) if call.action not in FREE} == set()


@pytest.mark.parametrize("role", TOGETHER)
def test_role_of_several_may_do_what_its_work_calls(role: str, ran: Seen, estate: Estate) -> None:
    calls = refused(granted(statements(role, estate)), ran.made(*TOGETHER[role]))
    assert {call for call in calls if call.action not in FREE} == set()


@pytest.mark.parametrize("role", WORK)
def test_role_may_do_nothing_that_its_work_does_not_call(role: str, ran: Seen, estate: Estate) -> None:
    idle = unused(granted(statements(role, estate)), ran.made(*WORK[role][0]))
    assert {(sid, action) for sid, action in idle if action not in NOT_SEEN} == set()


@pytest.mark.parametrize("role", WORK)
def test_role_may_use_the_keys_that_its_calls_imply_and_no_others(role: str, ran: Seen, estate: Estate) -> None:
    grants = granted(statements(role, estate))
    assert key_grants(grants) == key_uses(grants, ran, *WORK[role][0])


def key_grants(grants: list[Grant]) -> set[tuple[str, str, str]]:
    """Action, service and key of what a policy lets services do with keys."""
    assert all(
        grant.through for grant in grants if grant.action.startswith("kms:") and grant.action != "kms:DescribeKey"
    )
    return {(g.action, service, key) for g in grants for service in g.through for key in g.resources}


def key_uses(grants: list[Grant], ran: Seen, *stages: str) -> set[tuple[str, str, str]]:
    """Action, service and key of what those of the stages' calls imply that the grants are for."""
    known = direct(grants)
    made = [call for call in ran.made(*stages) if any(grant.allows(call) for grant in known)]
    found = {(*use, ran.key_of(call.resource)) for call in made for use in uses(call.operation)}
    return {(action, service, key) for action, service, key in found if key is not None}


def test_role_of_the_sources_account_may_do_what_is_called_with_it(ran: Seen) -> None:
    estate = estate_of(ran.settings, behind_role=True)
    source = granted(statements("source", estate))
    besides = [grant for role in ("canary", "restorer") for grant in granted(statements(role, estate))]
    made = ran.made(by=ROLE)
    assert refused([*source, *besides], made) == set()
    assert {action for _, action in unused(source, made)} <= set(NOT_SEEN)


def test_task_may_do_what_is_called_without_the_sources_role(ran: Seen) -> None:
    estate = estate_of(ran.settings, behind_role=True)
    task = granted(statements("dagster-task", estate))
    stages = [stage for stage in ran.ran if stage not in WORK["rebuilder"][0]]  # a person rebuilds
    made = {call for call in ran.made(*stages, by=None) if call.action not in FREE}
    assert refused(task, made) == set()
    assert {action for _, action in unused(task, made)} <= set(NOT_SEEN)


def test_nothing_is_listed_as_not_seen_or_free_without_need(ran: Seen, estate: Estate) -> None:
    idle = {
        a for role, (stages, _) in WORK.items() for _, a in unused(granted(statements(role, estate)), ran.made(*stages))
    }
    assert idle == set(NOT_SEEN)
    assert set(FREE) <= {call.action for call in ran.made()}


def test_every_use_of_a_key_is_seen(ran: Seen) -> None:
    """The roles' policies are held to what calls imply, so that calls have to be there which imply something."""
    services = {service for call in ran.made() for _, service in uses(call.operation)}
    assert services == {"s3", "dynamodb", "sqs"}
    assert allowed_uses(granted(statements("exporter", estate_of(ran.settings)))) == {
        ("kms:Decrypt", "s3"),
        ("kms:GenerateDataKey", "s3"),
        ("kms:Decrypt", "dynamodb"),
    }
