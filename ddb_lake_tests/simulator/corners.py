"""Scenarios by hand: each holds one trap which a plausible but wrong rule falls into, and little else.

`CORNERS` names them. All are promised exact; together they refute every rule that `test_simulator` tries.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence

from ddb_lake.core.values.change_record import Item
from ddb_lake_tests.simulator.composing import arrange
from ddb_lake_tests.simulator.envelopes import SECOND_US, Declared, Precision, declare
from ddb_lake_tests.simulator.exports import Export, full_export, incremental_export
from ddb_lake_tests.simulator.landing import Delivery
from ddb_lake_tests.simulator.model import History, Step, history_of, key_text
from ddb_lake_tests.simulator.scenario import Scenario

START_US = 1_772_357_400_000_000
HOUR_US = 3600 * SECOND_US
K: Item = {"id": {"S": "k"}}
OTHER: Item = {"id": {"S": "other"}}
A: Item = {"v": {"S": "A"}}
B: Item = {"v": {"S": "B"}}
C: Item = {"v": {"S": "C"}}

Write = tuple[int, Item, Item | None]
Exports = Callable[[History, random.Random], Sequence[Export]]


def _history(writes: Sequence[Write], key_names: Sequence[str] = ("id",), ttl: bool = False) -> History:
    """The history of `writes`: (µs after `START_US`, key, body or None), in order."""
    steps, last_us = [], 0
    for at_us, key, body in writes:
        steps.append(Step(at_us - last_us, key, body, ttl))
        last_us = at_us
    return history_of("corners", key_names, START_US, steps)


def _corner(
    history: History,
    exports: Exports | None = None,
    *,
    lost: Collection[int] = (),
    precisions: Sequence[Precision] = ("absent",),
    declared: Sequence[Declared] | None = None,
    delivery: Delivery | None = None,
    probes: Sequence[int] = (),
) -> Scenario:
    """`history` with the changes at positions `lost` not landed, records shuffled; `probes` in µs after the start."""
    rng = random.Random(7)
    told = declare(history, "kds", precisions, rng) if declared is None else declared
    return arrange(
        history,
        told,
        [at not in lost for at in range(len(history.changes))],
        exports(history, rng) if exports else [],
        delivery or Delivery(shuffled=True, shuffled_images=True, stamped=100, objects=3),
        7,
        probes_us=[START_US + at_us for at_us in probes],
    )


def _full(at_us: int, taken: Mapping[str, int] | None = None) -> Exports:
    """A full export `at_us` after the start; `taken`: key text to µs after the start."""
    read = {text: START_US + us for text, us in (taken or {}).items()}
    return lambda history, rng: [full_export(history, START_US + at_us, rng, read)]


def _full_and_window(at_us: int, from_us: int, to_us: int) -> Exports:
    """A full export, and an incremental one that is loaded before it."""
    return lambda history, rng: [
        incremental_export(history, START_US + from_us, START_US + to_us, rng),
        full_export(history, START_US + at_us, rng, {}),
    ]


def toggle_within_a_millisecond() -> Scenario:
    """A, B, A, B, A at one declared time, twenty keys: only the state before decides."""
    keys: list[Item] = [{"id": {"N": str(number)}} for number in range(20)]
    writes: list[Write] = [(0, key, A) for key in keys]
    writes += [(HOUR_US + turn, key, (B, A)[turn % 2]) for turn in range(4) for key in keys]
    return _corner(_history(writes), probes=(HOUR_US - 1, HOUR_US + 999))


def circuit_above_a_snapshot() -> Scenario:
    """The stream begins with a closed circuit: only the snapshot knows the state before."""
    keys: list[Item] = [{"id": {"N": str(number)}} for number in range(20)]
    writes: list[Write] = [(0, key, A) for key in keys]
    writes += [(HOUR_US + turn, key, (B, A)[turn % 2]) for turn in range(2) for key in keys]
    return _corner(_history(writes), _full(60 * SECOND_US), lost=range(20))


def recreated_within_a_millisecond() -> Scenario:
    """Inserted, removed and inserted again at one time; another key is removed, inserted and removed."""
    writes: list[Write] = [(0, OTHER, A), (HOUR_US, K, A), (HOUR_US + 1, K, None), (HOUR_US + 2, K, B)]
    writes += [(HOUR_US + 3, OTHER, None), (HOUR_US + 4, OTHER, A), (HOUR_US + 5, OTHER, None)]
    return _corner(_history(writes))


def long_trail_within_a_millisecond() -> Scenario:
    """A, B, C, A, C at one time: several records lead to the winner's image, and some from it."""
    turns = (B, C, A, C)
    writes: list[Write] = [(0, K, A), *((HOUR_US + at, K, body) for at, body in enumerate(turns))]
    return _corner(_history(writes))


def set_order_in_the_chain() -> Scenario:
    """Old and new images of one state spell its set in different orders."""
    first: Item = {"s": {"SS": ["a", "b", "c", "d", "e"]}, "m": {"M": {"n": {"NS": ["1", "2", "3", "10"]}}}}
    second: Item = {"s": {"SS": ["a", "b", "c", "d"]}}
    keys: list[Item] = [{"id": {"N": str(number)}} for number in range(8)]
    writes: list[Write] = [(0, key, first) for key in keys]
    writes += [(HOUR_US + turn, key, (second, first, second)[turn]) for turn in range(3) for key in keys]
    return _corner(_history(writes))


def duplicate_edge_in_the_chain() -> Scenario:
    """Records of a closed circuit delivered several times: counted twice they would no longer balance."""
    keys: list[Item] = [{"id": {"N": str(number)}} for number in range(12)]
    writes: list[Write] = [(0, key, A) for key in keys]
    writes += [(HOUR_US + turn, key, (B, A)[turn]) for turn in range(2) for key in keys]
    return _corner(_history(writes), delivery=Delivery(duplicates=50, shuffled=True, stamped=100, objects=4))


def late_record_behind_the_horizon() -> Scenario:
    """Old records arrive after the export: an insert whose removal never comes, an update since overwritten."""
    writes: list[Write] = [
        (0, K, A),
        (1000, OTHER, A),
        (2000, OTHER, B),
        (SECOND_US, K, None),
        (2 * SECOND_US, OTHER, C),
    ]
    return _corner(_history(writes), _full(HOUR_US), lost=(2, 3, 4), probes=(HOUR_US,))


def snapshot_read_too_early() -> Scenario:
    """The export missed writes of the minute before its time; the stream has them, so the margin brings them back."""
    writes: list[Write] = [(0, K, A), (1000, OTHER, A), (HOUR_US, K, B), (HOUR_US + 1000, OTHER, None)]
    early = {key_text(K): HOUR_US - SECOND_US, key_text(OTHER): HOUR_US - SECOND_US}
    return _corner(_history(writes), _full(HOUR_US + 30 * SECOND_US, early), probes=(2 * HOUR_US,))


def snapshot_read_too_late() -> Scenario:
    """The export already has writes of the minute after its time, one of them undone since."""
    writes: list[Write] = [(0, K, A), (1000, OTHER, A), (HOUR_US, K, B), (HOUR_US + 1000, OTHER, None)]
    writes += [(HOUR_US + 2 * SECOND_US, K, A)]
    late = {key_text(K): HOUR_US + SECOND_US, key_text(OTHER): HOUR_US + SECOND_US}
    return _corner(_history(writes), _full(HOUR_US - SECOND_US, late), probes=(2 * HOUR_US,))


def stream_younger_than_the_margin() -> Scenario:
    """The stream began four minutes before the export and lost a record since: the margin must not be used.

    An older record of another table does not make the stream reach further back.
    """
    writes: list[Write] = [(0, K, A), (HOUR_US, OTHER, A), (HOUR_US + SECOND_US, K, B), (HOUR_US + 2 * SECOND_US, K, C)]
    delivery = Delivery(shuffled=True, other_records=40, objects=2)
    return _corner(_history(writes), _full(HOUR_US + 240 * SECOND_US), lost=(0, 3), delivery=delivery)


def change_at_the_export_time() -> Scenario:
    """A change at exactly T is in the snapshot; here its successor, at T too, is in it."""
    writes: list[Write] = [(0, K, A), (HOUR_US, K, B), (HOUR_US, K, C), (2 * HOUR_US, OTHER, A)]
    return _corner(_history(writes), _full(HOUR_US), lost=(0, 2), precisions=("MICROSECOND",), probes=(HOUR_US,))


def change_at_the_end_of_a_window() -> Scenario:
    """A change at exactly the (exclusive) end of an incremental export is not in it, and wins."""
    writes: list[Write] = [(0, K, A), (HOUR_US, K, B), (2 * HOUR_US, K, C)]
    exports = _full_and_window(SECOND_US, SECOND_US, 2 * HOUR_US)
    return _corner(_history(writes), exports, lost=(0, 1), probes=(2 * HOUR_US - 1, 2 * HOUR_US))


def gap_mended_by_a_window() -> Scenario:
    """The stream lost an update, a removal, and an insert with its removal; the incremental export has the outcome."""
    third: Item = {"id": {"S": "third"}}
    quiet: Item = {"id": {"S": "never written again"}}
    writes: list[Write] = [(0, K, A), (1000, OTHER, A), (2000, quiet, A)]
    writes += [
        (HOUR_US, K, B),
        (HOUR_US + 1000, OTHER, None),
        (HOUR_US + 2000, third, A),
        (HOUR_US + 3000, third, None),
        (3 * HOUR_US, third, C),
    ]
    exports = _full_and_window(60 * SECOND_US, HOUR_US - SECOND_US, 2 * HOUR_US)
    return _corner(_history(writes), exports, lost=(3, 4, 5, 6), probes=(2 * HOUR_US, 3 * HOUR_US - 1))


def two_snapshots() -> Scenario:
    """The later of two full exports decides, though it is loaded first; the stream lost what happened between them."""
    writes: list[Write] = [(0, K, A), (1000, OTHER, A), (2 * HOUR_US, K, B), (2 * HOUR_US, OTHER, None)]
    writes += [(4 * HOUR_US, K, C)]

    def both(history: History, rng: random.Random) -> list[Export]:
        return [full_export(history, START_US + hours * HOUR_US, rng, {}) for hours in (3, 1)]

    return _corner(_history(writes), both, lost=(2, 3), probes=(HOUR_US, 3 * HOUR_US, 4 * HOUR_US - 1))


def sequence_before_time() -> Scenario:
    """Streams records whose clocks contradict the order, and sequence numbers that gain a digit."""
    writes: list[Write] = [(0, K, A), (5 * SECOND_US, K, B), (5 * SECOND_US + 1, K, C), (6 * SECOND_US, K, A)]
    history = _history(writes)
    stream = "arn:aws:dynamodb:eu-west-1:123456789012:table/corners/stream/2026-01-01T00:00:00.000"
    first = 10**21 - 2
    told = [
        Declared("streams", START_US + second * SECOND_US, "absent", stream, str(first + at))
        for at, second in enumerate((0, 7, 6, 6))
    ]
    return _corner(history, declared=told)


def recreated_stream() -> Scenario:
    """The stream was disabled and enabled again: the numbers of the new one are lower, its records newer."""
    writes: list[Write] = [(at * SECOND_US, K, (A, B)[at % 2]) for at in range(10)]
    history = _history(writes)
    return _corner(history, declared=declare(history, "streams", ("absent",), random.Random(1), second_stream=True))


def mixed_precisions() -> Scenario:
    """Milliseconds, microseconds and none declared, in turn: magnitudes differ a thousandfold."""
    units: tuple[Precision, ...] = ("MICROSECOND", "absent", "MILLISECOND")
    writes: list[Write] = [(at * 1000, key, (A, B, C)[at % 3]) for at in range(8) for key in (K, OTHER)]
    history = _history(writes)
    told = [Declared("kds", change.time_us, units[(at // 2 + at) % 3]) for at, change in enumerate(history.changes)]
    return _corner(history, declared=told)


def removed_by_ttl() -> Scenario:
    """One item expires; another expires and is written again."""
    writes: list[Write] = [
        (0, K, A),
        (1000, OTHER, A),
        (HOUR_US, K, None),
        (HOUR_US, OTHER, None),
        (2 * HOUR_US, OTHER, B),
    ]
    return _corner(_history(writes, ttl=True))


def keys_that_collide_when_joined() -> Scenario:
    """Two-part keys whose parts give the same text when joined, and binary beside equal text."""
    pairs = (("a", "bc"), ("ab", "c"), ("a|b", "c"), ("a", "b|c"), ("a\x00", "b"), ("a", "\x00b"), ('a","', "b"))
    keys: list[Item] = [{"p": {"S": first}, "s": {"S": second}} for first, second in pairs]
    writes: list[Write] = [(at * 1000, key, {"v": {"N": str(at)}}) for at, key in enumerate(keys)]
    writes += [(HOUR_US, keys[0], None), (HOUR_US, keys[2], None)]
    return _corner(_history(writes, ("p", "s")))


def huge_item() -> Scenario:
    """An item of nearly 400 KB, full of control characters, in the export and in the stream."""
    huge: Item = {"text": {"S": "\x01\n" * 150_000}, "bytes": {"B": "AAEC" * 30_000}}
    writes: list[Write] = [(0, K, huge), (HOUR_US, OTHER, huge), (2 * HOUR_US, K, {**huge, "v": {"N": "1"}})]
    return _corner(_history(writes), _full(60 * SECOND_US))


CORNERS: Mapping[str, Callable[[], Scenario]] = {
    corner.__name__: corner
    for corner in (
        toggle_within_a_millisecond,
        circuit_above_a_snapshot,
        recreated_within_a_millisecond,
        long_trail_within_a_millisecond,
        set_order_in_the_chain,
        duplicate_edge_in_the_chain,
        late_record_behind_the_horizon,
        snapshot_read_too_early,
        snapshot_read_too_late,
        stream_younger_than_the_margin,
        change_at_the_export_time,
        change_at_the_end_of_a_window,
        gap_mended_by_a_window,
        two_snapshots,
        sequence_before_time,
        recreated_stream,
        mixed_precisions,
        removed_by_ttl,
        keys_that_collide_when_joined,
        huge_item,
    )
}
"""Name to the function that makes the scenario."""
