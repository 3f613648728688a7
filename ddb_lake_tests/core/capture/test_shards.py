"""Shard lineage against an independent model: a forest of shards, read one record at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ddb_lake.core.capture.shards import (
    RETENTION_US,
    SLACK_US,
    Shard,
    ShardPosition,
    advanced,
    finished,
    idle,
    initial_lineage,
    observe,
    readable,
    restarted,
)

_DAY_AND_MORE_US = RETENTION_US + 1


@dataclass
class Node:
    """A shard of the model: its records' numbers, how many were read, and its children."""

    name: str
    parent: Node | None
    first: int
    records: list[int] = field(default_factory=list)
    closed: bool = False
    gone: bool = False
    read: int = 0
    done: bool = False

    def listed(self) -> Shard:
        """The shard as the service lists it."""
        last = str(max([self.first, *self.records]) + 1) if self.closed else None
        return Shard(self.name, self.parent.name if self.parent else None, str(self.first), last)

    def may_be_read(self) -> bool:
        """Whether nothing that is there still waits before it."""
        return not self.done and not self.gone and (self.parent is None or self.parent.gone or self.parent.done)


_STEPS = st.lists(
    st.tuples(st.sampled_from(("write", "close", "split", "read", "trim", "look")), st.integers(0, 20)), max_size=60
)


@given(steps=_STEPS)
def test_lineage_reads_what_the_model_reads_and_reports_what_it_lost(steps: list[tuple[str, int]]) -> None:
    number = 10**21
    nodes = [Node("s0", None, number)]
    lineage = initial_lineage([nodes[0].listed()], 0)
    lost: set[str] = set()
    told: set[str] = set()
    for step, pick in steps:
        number += 2
        living = [node for node in nodes if not node.closed]
        if step == "write":
            living[pick % len(living)].records.append(number)
        elif step in ("close", "split"):
            node = living[pick % len(living)]
            node.closed = True
            for _ in range(1 + (step == "split")):
                number += 1
                nodes.append(Node(f"s{len(nodes)}", node, number))
        elif step == "trim":  # the oldest closed shard goes
            old = [node for node in nodes if node.closed and not node.gone]
            if old:
                old[0].gone = True
                if not old[0].done:
                    lost.add(old[0].name)
        elif step == "read":
            free = readable(lineage)
            if free:
                node = next(one for one in nodes if one.name == free[pick % len(free)])
                if node.gone:
                    continue  # the service would say so; the next look does
                if node.read < len(node.records):
                    lineage = advanced(lineage, node.name, str(node.records[node.read]), node.read)
                    node.read += 1
                elif node.closed:
                    lineage = finished(lineage, node.name)
                    node.done = True
        else:
            found = observe(lineage, [node.listed() for node in nodes if not node.gone])
            lineage = found.lineage
            told |= set(found.lost)
            assert set(readable(lineage)) == {node.name for node in nodes if node.may_be_read()}
            assert set(lineage) == {node.name for node in nodes if not node.gone}
    told |= set(observe(lineage, [node.listed() for node in nodes if not node.gone]).lost)
    assert told <= lost  # never a false alarm
    assert bool(told) == bool(lost)  # one loss is reported for all shards that were created and closed unseen


def test_shards_without_a_listed_parent_begin_at_what_is_left_and_others_at_their_first_record() -> None:
    lineage = initial_lineage([Shard("a", "gone", "10", "19"), Shard("b", "a", "20")], 7)
    assert lineage == {"a": ShardPosition("gone", None, None, 7), "b": ShardPosition("a", "20", None, 7)}
    assert readable(lineage) == ["a"]


def test_shard_that_is_furthest_behind_is_read_first() -> None:
    lineage = {
        "a": ShardPosition(after="300"),
        "b": ShardPosition(after="20"),
        "c": ShardPosition(after="1000", finished=True),
    }
    assert readable(lineage) == ["b", "a"]


def test_closed_shard_whose_last_record_was_read_is_finished_without_a_request() -> None:
    found = observe({"a": ShardPosition(after="19")}, [Shard("a", None, "10", "19")])
    assert found.lineage["a"].finished
    assert found.lost == ()


def test_place_that_no_number_holds_is_lost_if_it_was_not_looked_at_for_a_day() -> None:
    lineage = {"a": ShardPosition(since_us=5)}
    listed = [Shard("a", None, "10")]
    assert observe(lineage, listed, RETENTION_US - SLACK_US).lost == ()
    found = observe(lineage, listed, _DAY_AND_MORE_US)
    assert (found.lost, found.lost_since_us) == (("a",), 5)
    assert observe({"a": ShardPosition(start="10")}, listed, _DAY_AND_MORE_US).lost == ()  # the service states it


def test_parent_that_came_and_went_unseen_is_lost() -> None:
    found = observe({"a": ShardPosition(after="5", since_us=50, finished=True)}, [Shard("c", "b", "30")])
    assert (found.lost, found.lost_since_us) == (("b",), 50)
    assert found.lineage == {"c": ShardPosition("b", "30", None, 50)}


def test_times_of_what_is_unread_only_grow() -> None:
    lineage = {"a": ShardPosition(since_us=10 * SLACK_US)}
    assert idle(lineage, "a", 0)["a"].since_us == 10 * SLACK_US
    assert idle(lineage, "a", 12 * SLACK_US)["a"].since_us == 11 * SLACK_US
    assert advanced(lineage, "a", "7", 3)["a"] == ShardPosition(after="7", since_us=10 * SLACK_US)
    assert restarted(advanced(lineage, "a", "7", 3), "a", 9)["a"] == ShardPosition(since_us=9)
