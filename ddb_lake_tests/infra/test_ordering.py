"""What carries records and notices is made before the first record flows, in every template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ddb_lake_tests.support.templates import Template

CARRIERS = (
    "AWS::KinesisFirehose::DeliveryStream",
    "AWS::Events::Rule",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::Kinesis::Stream",
)
STARTING = {"same-account": 1, "producer": 1, "streams-to-aurora": 1, "replicate-source": 1, "replicate-target": 1}
"""The number of starters of each stack of the example: tables with a Kinesis stream, readers of streams."""


def starters(template: Template) -> list[str]:
    """Tables that send their changes to Kinesis, and functions' readers of streams."""
    tables = template.resources("AWS::DynamoDB::Table")
    mappings = template.resources("AWS::Lambda::EventSourceMapping")
    return [
        *(id for id, table in tables.items() if "KinesisStreamSpecification" in table),
        *(id for id, mapping in mappings.items() if "StartingPosition" in mapping),
    ]


def made_before(template: Template, id: str) -> set[str]:
    """The resources that CloudFormation makes before this one: those it refers to or depends on, directly or not."""
    resources = template.document["Resources"]
    found: set[str] = set()
    waiting = [id]
    while waiting:
        for other in _needs(resources[waiting.pop()]):
            if other in resources and other not in found:
                found.add(other)
                waiting.append(other)
    return found


@pytest.mark.parametrize(("name", "count"), STARTING.items())
def test_records_flow_after_everything_that_carries_them_is_made(
    name: str, count: int, templates: dict[str, Template]
) -> None:
    """Guards the first records: Firehose reads a stream from its newest record, and a rule has no earlier event."""
    template = templates[name]
    carriers = {id for kind in CARRIERS for id in template.resources(kind)}
    found = starters(template)
    assert len(found) == count
    for id in found:
        assert carriers - made_before(template, id) == set(), id


def test_every_stack_with_a_starter_is_listed(templates: dict[str, Template]) -> None:
    assert {name for name, template in templates.items() if starters(template)} == set(STARTING)


def test_adopted_tables_stream_is_switched_on_by_hand_and_so_after_the_stack(adopting: dict[str, Template]) -> None:
    template = adopting["same-account"]
    (own,) = starters(template)  # the adopted table is none of the stack's
    assert set(template.resources("AWS::KinesisFirehose::DeliveryStream")) <= made_before(template, own)


def _needs(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _needs(one)
    elif isinstance(value, dict):
        for name, member in value.items():
            if name == "Ref":
                yield str(member)
            elif name == "Fn::GetAtt":
                yield str(member[0])
            elif name == "DependsOn":
                yield from member if isinstance(member, list) else [member]
            else:
                yield from _needs(member)
